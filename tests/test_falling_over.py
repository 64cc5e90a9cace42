"""Before the commit every failure goes to the next provider; after it, none does."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import Iterable

import pytest

from providers.routing import Target
from proxy.call import Call
from proxy.errors import Failure
from proxy.formats.anthropic import AnthropicStream
from proxy.formats.openai_chat.format import OpenAIChat
from proxy.mending import Mending
from proxy.wire import ErrorReply
from tests.proxy import WITH_DATABASE, Proxy, body_of, fallback, primary, running_proxy, until
from tests.raw_http import Aborted, Reply
from tests.upstreams import (
    BLOCK,
    BLOCK_STOP,
    DELTA,
    HELLO,
    JSON_TYPE,
    MESSAGE,
    PING,
    START,
    STOP,
    STREAM,
    STREAM_TYPE,
    WORLD,
    FakeProvider,
    Part,
    Step,
    Then,
    by_case,
    drop,
    error_body,
    error_event,
    event,
    hang,
    message,
    ok,
    raw,
    refuse,
    reply,
    stream,
)

pytestmark = WITH_DATABASE

HTML = b"<html>\n\n<body>Just a moment...</body>\n\n</html>"
HTML_TYPE = (b"content-type", b"text/html")


async def trail(proxy: Proxy, streaming: bool, **fields: str) -> str | None:
    """Who was asked, given that the fallback's answer arrives whole."""
    answer = await proxy.call(body_of(stream=streaming, **fields))
    assert answer.status == 200, answer.body
    assert answer.body == (b"".join(STREAM) if streaming else MESSAGE)
    return answer["x-ccf-attempts"]


BEFORE_CONTENT: dict[str, list[Part]] = {
    "at once": [],
    "inside the first event": [START[:40]],
    "after the first event": [START],
    "after a ping": [START, PING],
    "after many pings": [START, PING, b": comment\n\n", PING],
    "inside the first content": [START, PING, BLOCK[:-1]],
}
FAULTS: dict[str, tuple[list[Part], str]] = {
    "cut": ([Then.CUT], "network"),
    "reset": ([Then.RESET], "network"),
    "clean end": ([], "network"),
    "stall": ([Then.HANG], "timeout"),
    "overloaded_error": ([error_event()], "529"),
    "rate_limit_error": ([error_event("rate_limit_error")], "429"),
    "api_error": ([error_event("api_error")], "500"),
    "authentication_error": ([error_event("authentication_error")], "401"),
    "an error of an unknown type": ([error_event("invented_error")], "500"),
    "error, then a stall": ([error_event(), Then.HANG], "529"),
    "error without a final blank line": ([error_event()[:-1]], "529"),
}


async def trails(proxy: Proxy, streaming: bool, cases: Iterable[str]) -> dict[str, str | None]:
    """`trail` of many cases at once."""
    found = await asyncio.gather(*[trail(proxy, streaming, case=case) for case in cases])
    return dict(zip(cases, found, strict=True))


@pytest.mark.parametrize("silent", [False, True])
async def test_a_stream_that_fails_before_its_first_content_goes_to_the_next_provider(
    silent: bool,
) -> None:
    limits = {"first_byte_stream_limit": 0.3} if silent else {}
    steps, expected = {}, {}
    for place, before in BEFORE_CONTENT.items():
        for fault, (parts, result) in FAULTS.items():
            if (fault == "stall") != silent:
                continue
            if place.startswith("inside") and "error" in fault:
                continue  # the broken line would swallow the event
            steps[f"{fault} {place}"] = stream(*before, *parts)
            expected[f"{fault} {place}"] = f"anthropic-primary={result},openrouter=200"
    async with FakeProvider(by_case(steps)) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up, **limits), fallback(other)) as proxy:
            assert await trails(proxy, True, steps) == expected
            assert len(up.requests) == len(steps)


WHOLE_REPLIES: dict[str, tuple[Step, str]] = {
    "401": (refuse(401, kind="authentication_error"), "401"),
    "402": (refuse(402, kind="billing_error"), "402"),
    "403": (refuse(403, kind="permission_error"), "403"),
    "408": (refuse(408), "408"),
    "429": (refuse(429, kind="rate_limit_error"), "429"),
    "500": (refuse(500), "500"),
    "502 without a body": (reply(502), "502"),
    "502 of a gateway": (reply(502, HTML, [HTML_TYPE]), "502"),
    "503": (refuse(503), "503"),
    "529": (refuse(529, kind="overloaded_error"), "529"),
    "599": (refuse(599), "599"),
    "a redirect": (reply(302, b"", [(b"location", b"/elsewhere")]), "302"),
    "credit used up": (refuse(400, "Your credit balance is too low to access"), "400"),
    "tokens per minute as 413": (refuse(413, "Rate limit reached: 9 tokens per min"), "413"),
    "an error cut short": (
        raw(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 999\r\n\r\n{"),
        "429",
    ),
    "200 without a body": (reply(200), "invalid"),
    "200 with a page": (reply(200, HTML, [HTML_TYPE]), "invalid"),
    "200 with another JSON": (reply(200, b'{"ok":true}'), "invalid"),
    "200 with JSON that is no object": (reply(200, b'["message"]'), "invalid"),
    "200 with broken JSON": (reply(200, MESSAGE[:-1]), "invalid"),
    "200 with an error": (reply(200, error_body("overloaded_error", "busy")), "529"),
    "a message cut short": (
        raw(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n" + MESSAGE),
        "network",
    ),
    "no answer": (drop(), "network"),
    "no HTTP": (raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), "network"),
}
SILENT: dict[str, tuple[Step, str]] = {
    "silence": (hang(), "timeout"),
    "half a message, then silence": (
        raw(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{", then_close=False),
        "timeout",
    ),
}
STREAM_REPLIES: dict[str, tuple[Step, str]] = {
    "a message for a stream": (message(), "invalid"),
    "a page for a stream": (reply(200, HTML, [HTML_TYPE]), "network"),
    "a page called a stream": (reply(200, HTML, [STREAM_TYPE]), "network"),
    "an empty body called a stream": (reply(200, b"", [STREAM_TYPE]), "network"),
    "an error as JSON called a stream": (
        reply(200, error_body("rate_limit_error", "slow down"), [STREAM_TYPE]),
        "429",
    ),
    "events without a content type": (stream(START, headers=[]), "network"),
}


FOR_MESSAGES = WHOLE_REPLIES
FOR_STREAMS = {**WHOLE_REPLIES, **STREAM_REPLIES}
del FOR_STREAMS["200 with a page"]  # there a failure of the network: it might be a stream
LIMITS = {"first_byte_stream_limit": 0.3, "first_byte_limit": 0.3, "idle_limit": 0.3}


@pytest.mark.parametrize(
    ("streaming", "cases", "limits"),
    [
        (False, FOR_MESSAGES, {}),
        (True, FOR_STREAMS, {}),
        (False, SILENT, LIMITS),
        (True, SILENT, LIMITS),
    ],
    ids=["message", "stream", "message, silent", "stream, silent"],
)
async def test_an_answer_that_cannot_be_had_is_asked_of_the_next_provider(
    streaming: bool, cases: dict[str, tuple[Step, str]], limits: dict[str, float]
) -> None:
    steps = {name: step for name, (step, _) in cases.items()}
    expected = {
        name: f"anthropic-primary={result},openrouter=200" for name, (_, result) in cases.items()
    }
    async with FakeProvider(by_case(steps)) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up, **limits), fallback(other)) as proxy:
            assert await trails(proxy, streaming, steps) == expected
            assert len(up.requests) == len(steps)


@pytest.mark.parametrize(
    "endless",
    [reply(200, b"<br>" * 5_000_000, [STREAM_TYPE]), stream(START, *[PING * 4000] * 40, Then.HANG)],
    ids=["a page", "pings"],
)
async def test_a_stream_that_never_comes_to_the_point_is_given_up(endless: Step) -> None:
    async with FakeProvider(endless) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            assert await trail(proxy, True) == "anthropic-primary=invalid,openrouter=200"


async def test_a_provider_that_cannot_be_reached_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        refusing = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with FakeProvider(ok()) as other:
            async with running_proxy(primary(refusing), fallback(other)) as proxy:
                for streaming in (True, False):
                    expected = "anthropic-primary=network,openrouter=200"
                    assert await trail(proxy, streaming) == expected


async def test_a_redirect_is_not_followed() -> None:
    async with FakeProvider(ok()) as elsewhere, FakeProvider(ok()) as other:
        location = [(b"location", elsewhere.url.encode() + b"/v1/messages")]
        async with FakeProvider(reply(307, b"", location)) as up:
            async with running_proxy(primary(up), fallback(other)) as proxy:
                assert await trail(proxy, True) == "anthropic-primary=307,openrouter=200"
                assert elsewhere.requests == []


async def test_the_call_goes_down_the_list_in_order_until_somebody_answers() -> None:
    async with (
        FakeProvider(refuse(429)) as first,
        FakeProvider(refuse(404)) as second,
        FakeProvider(drop()) as third,
        FakeProvider(ok()) as fourth,
        FakeProvider(ok()) as fifth,
    ):
        async with running_proxy(
            primary(first),
            fallback(second, "second"),
            fallback(third, "third"),
            fallback(fourth, "fourth"),
            fallback(fifth, "fifth"),
        ) as proxy:
            expected = "anthropic-primary=429,second=404,third=network,fourth=200"
            assert await trail(proxy, True) == expected
            assert fifth.requests == []


async def test_each_attempt_starts_from_the_original_request() -> None:
    body = body_of(odd="\\u00e9 123456789012345678901234567890")
    async with FakeProvider(refuse(529)) as up, FakeProvider(ok()) as other:
        mapped = {"anthropic-primary": {"claude-*": "mapped-1"}}
        async with running_proxy(primary(up), fallback(other), mappings=mapped) as proxy:
            await proxy.call(body)
            assert up.requests[0].body == body.replace(b"claude-test", b"mapped-1")
            assert other.requests[0].body == body


# --- after the commit --------------------------------------------------------

COMMITTED: dict[str, list[bytes]] = {
    "the first content": [START, PING, BLOCK],
    "a delta": [START, BLOCK, HELLO],
    "a ping": [START, BLOCK, HELLO, PING],
    "a block": [START, BLOCK, HELLO, BLOCK_STOP],
    "the last delta": [START, BLOCK, HELLO, BLOCK_STOP, DELTA],
    "a delta without a block": [START, DELTA],
}
DEATHS: dict[str, list[Part]] = {
    "cut": [Then.CUT],
    "cut inside an event": [WORLD[:30], Then.CUT],
    "clean end": [],
    "clean end inside an event": [WORLD[:-1]],
    "stall": [Then.HANG],
    "stall inside an event": [WORLD[:30], Then.HANG],
}


@pytest.mark.parametrize("silent", [False, True])
async def test_a_stream_that_dies_after_the_commit_is_aborted_behind_its_last_whole_event(
    silent: bool,
) -> None:
    limits = {"idle_limit": 0.5} if silent else {}
    steps, expected = {}, {}
    for place, sent in COMMITTED.items():
        for death, parts in DEATHS.items():
            if death.startswith("stall") != silent:
                continue
            steps[f"{death} after {place}"] = stream(*sent, *parts)
            expected[f"{death} after {place}"] = b"".join(sent)
    async with FakeProvider(by_case(steps)) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up, **limits), fallback(other)) as proxy:
            for case, answer in (await answers(proxy, steps)).items():
                assert answer.body == expected[case], case
                assert answer.aborted, case
                assert answer["x-ccf-attempts"] == "anthropic-primary=200"
            assert other.requests == []


async def test_a_stream_that_the_proxy_fails_on_is_not_said_to_be_cancelled_by_its_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = asyncio.Event()

    def crash(self: AnthropicStream, data: bytes) -> bytes:
        raise RuntimeError("a bug")

    async with FakeProvider(stream(START, BLOCK, gate, HELLO, STOP)) as up:
        async with running_proxy(primary(up)) as proxy, proxy.open() as client:
            await client.head()
            await client.chunk()
            monkeypatch.setattr(AnthropicStream, "feed", crash)
            gate.set()
            with pytest.raises(Aborted):
                await client.chunk()
            (call,) = await proxy.log(1)
            assert call.outcome == "broken"
            assert "a bug" not in call.error


async def test_a_crash_over_one_providers_dialect_costs_nobody_elses_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(self: OpenAIChat, call: Call, target: Target) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(OpenAIChat, "translate", crash)
    limit = refuse(429, "slow down", "rate_limit_error", [(b"retry-after", b"7")])
    async with FakeProvider(limit) as up, FakeProvider(ok()) as other, FakeProvider(ok()) as third:
        broken = fallback(other, format="openai")
        async with running_proxy(primary(up), broken, fallback(third, "third")) as proxy:
            trail = "anthropic-primary=429,openrouter=crash"
            assert (await proxy.call())["x-ccf-attempts"] == f"{trail},third=200"
            (crash_said,) = [r for r in caplog.records if r.msg == "attempt.crash"]
            assert vars(crash_said)["fields"]["provider"] == "openrouter"
            third.script(refuse(400))
            answer = await proxy.call()
            assert (answer.status, answer["retry-after"]) == (429, "7")
        async with running_proxy(fallback(other, format="openai")) as proxy:
            assert (await proxy.call()).error_type == "api_error"


async def test_what_cannot_be_prepared_for_a_provider_is_sent_as_it_came() -> None:
    number = b"9" * 5000  # more digits than Python reads
    async with FakeProvider(refuse(529)) as up, FakeProvider(ok()) as other:
        spared = fallback(other, profile={"strip_fields": ["unknown"]})
        async with running_proxy(primary(up), spared) as proxy:
            for streaming in (True, False):
                body = body_of(streaming, max_tokens=0).replace(b": 0", b": " + number)
                answer = await proxy.call(body)
                assert answer["x-ccf-attempts"] == "anthropic-primary=529,openrouter=200"
                assert other.requests[-1].body == body


async def test_a_crash_of_a_repair_leaves_the_providers_own_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def crash(self: Mending, reply: ErrorReply, failure: Failure) -> bool:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Mending, "_apply", crash)
    async with FakeProvider(refuse(400, "prompt is too long")) as up:
        async with running_proxy(primary(up)) as proxy:
            answer = await proxy.call()
            assert (answer.status, answer.body) == (
                400,
                error_body("api_error", "prompt is too long"),
            )


async def test_an_error_event_after_the_commit_is_passed_on() -> None:
    endings: dict[str, list[Part]] = {"end": [], "cut": [Then.CUT], "stall": [Then.HANG]}
    steps, expected = {}, {}
    for place, sent in COMMITTED.items():
        for ending, parts in endings.items():
            steps[f"{ending} after {place}"] = stream(*sent, error_event(), *parts)
            expected[f"{ending} after {place}"] = b"".join(sent) + error_event()
    async with FakeProvider(by_case(steps)) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up, idle_limit=0.5), fallback(other)) as proxy:
            for case, answer in (await answers(proxy, steps)).items():
                assert answer.body == expected[case], case
                assert answer.aborted != case.startswith("end"), case
            assert other.requests == []


async def answers(proxy: Proxy, cases: Iterable[str]) -> dict[str, Reply]:
    """Streamed calls of many cases at once."""
    found = await asyncio.gather(*[proxy.call(body_of(case=case)) for case in cases])
    return dict(zip(cases, found, strict=True))


async def test_an_error_event_that_lacks_its_blank_line_is_passed_on_whole() -> None:
    async with FakeProvider(stream(START, BLOCK, error_event()[:-1])) as up:
        async with running_proxy(primary(up)) as proxy:
            answer = await proxy.call()
            # Without a blank line clients would drop it and take the end for a complete answer.
            assert answer.body.startswith(START + BLOCK + error_event())


async def test_a_torn_error_event_is_not_taken_for_an_end() -> None:
    async with FakeProvider(stream(START, BLOCK, error_event()[:-9])) as up:
        async with running_proxy(primary(up)) as proxy:
            answer = await proxy.call()
            assert (answer.body, answer.aborted) == (START + BLOCK, True)


def with_line_ends(data: bytes, line_end: bytes) -> bytes:
    return data.replace(b"\n", line_end)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
async def test_a_stream_cut_at_any_byte_ends_behind_a_whole_event(line_end: bytes) -> None:
    head = with_line_ends(START + BLOCK, line_end)
    events = [with_line_ends(part, line_end) for part in (b"data: {}\n\n", b"event: x\ndata:1\n\n")]
    tail = b"".join(events)
    ends = [0, len(events[0]), len(tail)]
    if line_end == b"\r\n":  # a blank line is one as soon as its CR has come
        ends += [end - 1 for end in ends[1:]]
    steps = {
        str(at): stream(head, *[tail[:at]] * (at > 0), Then.CUT) for at in range(len(tail) + 1)
    }
    async with FakeProvider(by_case(steps)) as up, running_proxy(primary(up)) as proxy:
        for case, answer in (await answers(proxy, steps)).items():
            whole = max(end for end in ends if end <= int(case))
            assert (answer.body, answer.aborted) == (head + tail[:whole], True), case


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
async def test_a_stream_split_at_every_byte_arrives_whole(line_end: bytes) -> None:
    whole = with_line_ends(b"".join(STREAM), line_end)
    async with FakeProvider(stream(*[whole[i : i + 1] for i in range(len(whole))])) as up:
        async with running_proxy(primary(up)) as proxy:
            answer = await proxy.call()
            assert (answer.body, answer.aborted) == (whole, False)


async def test_whole_events_are_sent_while_the_next_one_is_unfinished() -> None:
    gate = asyncio.Event()
    async with FakeProvider(stream(START, BLOCK, HELLO + WORLD[:20], gate, WORLD[20:])) as up:
        async with running_proxy(primary(up)) as proxy, proxy.open() as client:
            await client.head()
            data = b""
            while len(data) < len(START + BLOCK + HELLO):
                data += await client.chunk()
            assert data == START + BLOCK + HELLO
            gate.set()
            assert await client.chunk() == WORLD
            with pytest.raises(Aborted):
                await client.chunk()


async def test_a_stream_that_has_said_everything_need_not_be_hung_up() -> None:
    async with FakeProvider(stream(*STREAM, Then.HANG)) as up:
        async with running_proxy(primary(up)) as proxy:
            answer = await proxy.call()
            assert (answer.body, answer.aborted) == (b"".join(STREAM), False)
            await until(lambda: not up.open, "the upstream connection closed")


async def test_an_answer_without_content_is_good_enough_of_the_last_provider() -> None:
    empty = event("message_stop")
    async with FakeProvider(stream(START, empty)) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            assert await trail(proxy, True) == "anthropic-primary=invalid,openrouter=200"
            other.script(stream(START, empty))
            answer = await proxy.call()
            assert (answer.status, answer.body) == (200, START + empty)


async def test_a_legitimate_empty_answer_commits() -> None:
    async with FakeProvider(stream(START, DELTA, STOP)) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            assert (await proxy.call()).body == START + DELTA + STOP
            assert other.requests == []


async def test_a_failure_is_read_even_when_it_comes_compressed() -> None:
    body = error_body("invalid_request_error", "Your credit balance is too low")
    headers = [JSON_TYPE, (b"content-encoding", b"gzip")]
    async with FakeProvider(reply(400, gzip.compress(body), headers)) as up:
        async with FakeProvider(ok()) as other:
            async with running_proxy(primary(up), fallback(other)) as proxy:
                assert await trail(proxy, True) == "anthropic-primary=400,openrouter=200"


async def test_a_clients_own_401_can_be_set_to_go_back_to_it() -> None:
    step = refuse(401, "OAuth token has expired", "authentication_error")
    async with FakeProvider(step) as up, FakeProvider(ok()) as other:
        provider = primary(up, on_client_401="return")
        async with running_proxy(provider, fallback(other, on_client_401="return")) as proxy:
            answer = await proxy.call()
            assert answer.status == 401
            assert answer.json()["error"]["message"] == "OAuth token has expired"
            assert other.requests == []


async def test_every_other_4xx_of_the_primary_goes_back_and_of_a_fallback_moves_on() -> None:
    async with (
        FakeProvider(ok()) as up,
        FakeProvider(ok()) as first,
        FakeProvider(ok()) as second,
    ):
        async with running_proxy(
            primary(up), fallback(first, "first"), fallback(second, "second")
        ) as proxy:
            for status in (400, 404, 405, 409, 413, 422, 451, 499):
                body = json.dumps({"error": {"message": f"no {status}"}}).encode()
                up.script(reply(status, body))
                answer = await proxy.call()
                assert (answer.status, answer.body) == (status, body)
                assert first.requests == []
                up.script(refuse(529))
                first.script(reply(status, body))
                expected = f"anthropic-primary=529,first={status},second=200"
                assert await trail(proxy, True) == expected
                first.script(ok())
