"""A Chat Completions provider behind the proxy: the client cannot tell that it is not Anthropic."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.openai_dialect import (
    DONE,
    WEB_SEARCH,
    blocks_in,
    completion,
    d,
    ending,
    event,
    events_in,
    fin,
    kinds,
    said,
    tc,
    tool,
    usage,
)
from tests.proxy import (
    PROVIDER_KEY,
    WITH_DATABASE,
    Proxy,
    body_of,
    chat,
    fallback,
    primary,
    running_proxy,
    until,
)
from tests.raw_http import Reply
from tests.upstreams import (
    JSON_TYPE,
    STREAM_TYPE,
    FakeProvider,
    Part,
    Step,
    Then,
    drop,
    either,
    message,
    ok,
    refuse,
    reply,
    stream,
)

pytestmark = WITH_DATABASE

THINKING: dict[str, Any] = {"thinking": {"type": "adaptive"}}
USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 64},
}
CHUNKS = [d(role="assistant", content=""), d(content="Hel"), d(content="lo"), fin("stop")]
ROLE = CHUNKS[0]


def good() -> Step:
    """Hello, streamed or whole."""
    whole = message(completion({"content": "Hello"}, usage=USAGE))
    return either(stream(*CHUNKS, usage(**USAGE), DONE), whole)


def openai_error(status: int, text: str, **fields: Any) -> Step:
    headers = [JSON_TYPE, *fields.pop("headers", ())]
    return reply(status, json.dumps({"error": {"message": text, **fields}}).encode(), headers)


async def events(proxy: Proxy, **fields: Any) -> list[dict[str, Any]]:
    answer = await proxy.call(body_of(**fields))
    assert (answer.status, answer.aborted) == (200, False), answer.body
    return events_in(answer.body)


async def test_a_stream_and_a_message_arrive_as_anthropics() -> None:
    async with FakeProvider(good()) as up, running_proxy(chat(up)) as proxy:
        answer = await proxy.call()
        assert (answer.status, answer.aborted) == (200, False)
        assert answer["content-type"] == "text/event-stream; charset=utf-8"
        assert said(events_in(answer.body)) == ["Hello"]
        answer = await proxy.call(body_of(stream=False))
        assert answer["content-type"] == "application/json"
        assert answer["request-id"]
        document = answer.json()
        assert document["content"] == [{"type": "text", "text": "Hello"}]
        assert (document["model"], document["stop_reason"]) == ("claude-test", "end_turn")


# --- what the provider gets to see ------------------------------------------------

CLIENT_HEADERS = [
    ("anthropic-version", "2023-06-01"),
    ("anthropic-beta", "oauth-2025-04-20,context-management-2025-06-27"),
    ("user-agent", "claude-cli/2.1.0"),
    ("x-app", "cli"),
    ("x-stainless-lang", "js"),
    ("x-claude-code-session-id", "session-a"),
    ("cookie", "session=secret"),
    ("x-anything", "else"),
]
CLAUDE_CODES: dict[str, Any] = {
    "system": [
        {
            "type": "text",
            "text": "x-anthropic-billing-header: cc_version=2.1.38; cc_entrypoint=cli; cch=90d92;",
        },
        {"type": "text", "text": "You are", "cache_control": {"type": "ephemeral"}},
    ],
    "tools": [tool("Bash", cache_control={"type": "ephemeral"}, defer_loading=False), WEB_SEARCH],
    "metadata": {"user_id": "user_1_account_2_session_3"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
    "output_config": {"effort": "high"},
    "thinking": {"type": "adaptive"},
    "top_k": 5,
    "service_tier": "auto",
    "stop_sequences": ["</stop>"],
}
ALLOWED_HEADERS = {
    b"host",
    b"content-length",
    b"content-type",
    b"accept",
    b"accept-encoding",
    b"authorization",
}
ALLOWED_FIELDS = {"model", "messages", "max_tokens", "stream", "stream_options", "tools", "stop"}


async def test_nothing_of_anthropics_reaches_the_provider() -> None:
    async with FakeProvider(good()) as up, running_proxy(chat(up)) as proxy:
        answer = await proxy.call(
            body_of(**CLAUDE_CODES), target="/v1/messages?beta=true", extra=CLIENT_HEADERS
        )
        assert answer.status == 200
        (request,) = up.requests
        assert (request.method, request.target) == ("POST", b"/v1/chat/completions")
        assert {name.lower() for name, _ in request.headers} <= ALLOWED_HEADERS
        assert request.values("authorization") == [f"Bearer {PROVIDER_KEY}".encode()]
        body = json.loads(request.body)
        assert body.keys() <= ALLOWED_FIELDS
        assert body["messages"] == [
            {"role": "system", "content": "You are"},
            {"role": "user", "content": "Hi"},
        ]
        assert [list(entry) for entry in body["tools"]] == [["type", "function"]]
        for trace in (b"anthropic", b"claude-cli", b"cch=", b"cache_control", b"user_1"):
            assert trace not in request.everything.lower().replace(b"claude-test", b"")


async def test_the_history_tells_what_was_sent_dropped_and_used() -> None:
    steps = [stream(*CHUNKS, usage(**USAGE), DONE), stream(*CHUNKS, DONE)]
    async with FakeProvider(*steps) as up:
        mapped = {"llm": {"claude-*": "gpt-x"}}
        async with running_proxy(chat(up), mappings=mapped) as proxy:
            answer = await proxy.call(body_of(**CLAUDE_CODES))
            assert events_in(answer.body)[0]["message"]["model"] == "claude-test"
            assert json.loads(up.requests[0].body)["model"] == "gpt-x"
            await proxy.call()
            first, second = await proxy.log(2)
            assert (first.provider, first.model, first.model_sent) == (
                "llm",
                "claude-test",
                "gpt-x",
            )
            assert (first.input_tokens, first.cache_read_tokens, first.output_tokens) == (36, 64, 7)
            assert (first.usage_estimated, second.usage_estimated) == (False, True)
            assert second.input_tokens
            assert second.output_tokens
            assert {"top_k", "context_management", "service_tier"} <= set(first.dropped)
            assert second.dropped == {}
            ((attempt,), _) = await proxy.attempts(2)
            assert (attempt.result, attempt.model, attempt.unmodified) == ("200", "gpt-x", False)


# --- streams that go wrong ---------------------------------------------------------

FALLS_OVER: dict[str, tuple[Step, str]] = {
    "S22 an error chunk first": (
        stream(
            event(
                {
                    "error": {"code": 502, "message": "Provider disconnected"},
                    "choices": [{"delta": {"content": ""}, "finish_reason": "error"}],
                }
            )
        ),
        "502",
    ),
    "S23 an error event first": (
        stream(b'event: error\ndata: {"error":{"message":"rate limit","code":429}}\n\n'),
        "429",
    ),
    "S23 an error that is a text": (stream(event({"error": "boom"})), "502"),
    "S25 an end without content": (stream(ROLE, fin("stop"), DONE), "invalid"),
    "S26 an error as JSON": (openai_error(200, "busy", code="overloaded"), "529"),
    "S26 an empty message as JSON": (message(completion({"content": ""})), "invalid"),
    "a role and then nothing": (stream(ROLE, Then.CUT), "network"),
    "nothing": (stream(), "network"),
}


async def test_a_stream_without_content_goes_to_the_next_provider() -> None:
    steps = [step for step, _ in FALLS_OVER.values()]
    async with FakeProvider(*steps) as up, FakeProvider(good()) as other:
        async with running_proxy(chat(up, "first"), chat(other, "second")) as proxy:
            for case, (_, result) in FALLS_OVER.items():
                answer = await proxy.call()
                assert said(events_in(answer.body)) == ["Hello"], case
                assert answer["x-ccf-attempts"] == f"first={result},second=200", case


@pytest.mark.parametrize(
    "step",
    [stream(ROLE, fin("stop"), DONE), message(completion({"content": ""}))],
    ids=["a stream", "JSON"],
)
async def test_an_empty_answer_of_the_last_provider_is_a_legal_message(step: Step) -> None:
    async with FakeProvider(step) as up, running_proxy(chat(up)) as proxy:
        found = [e for e in await events(proxy) if e["type"] != "ping"]
        assert kinds(found) == ["message_start", "message_delta", "message_stop"]
        assert ending(found)["delta"]["stop_reason"] == "end_turn"


async def test_s26_a_message_for_a_stream_arrives_as_the_same_events() -> None:
    call = {"id": "call_1", "function": {"name": "Bash", "arguments": '{"c":1}'}}
    text = {"content": "Hello", "tool_calls": [call]}
    whole = message(completion(text, "tool_calls", usage=USAGE))
    streamed = stream(
        ROLE,
        d(content="Hello"),
        tc(0, "call_1", "Bash", '{"c":1}'),
        fin("tool_calls"),
        usage(**USAGE),
        DONE,
    )
    async with FakeProvider(whole, streamed) as up, running_proxy(chat(up)) as proxy:
        first, second = await events(proxy), await events(proxy)
        assert said(first) == said(second) == ["Hello", ("call_1", "Bash", {"c": 1})]
        assert ending(first) == ending(second)
        assert ending(first)["usage"]["output_tokens"] == 7
        for call_row in await proxy.log(2):
            assert (call_row.outcome, call_row.output_tokens) == ("answered", 7)


async def test_an_error_after_the_commit_is_told_as_an_event() -> None:
    error = event({"error": {"code": 502, "message": "Provider disconnected"}, "choices": []})
    async with FakeProvider(stream(d(content="hi"), error)) as up, FakeProvider(ok()) as other:
        async with running_proxy(chat(up), fallback(other)) as proxy:
            *_, last = await events(proxy)
            assert (last["type"], last["error"]["type"]) == ("error", "api_error")
            assert "Provider disconnected" in last["error"]["message"]
            assert other.requests == []


async def test_a_stream_that_dies_after_the_commit_is_aborted_without_an_invented_end() -> None:
    async with FakeProvider(stream(d(content="hi"), Then.CUT)) as up:
        async with running_proxy(chat(up)) as proxy:
            answer = await proxy.call()
            assert answer.aborted
            assert kinds(events_in(answer.body))[-1] == "content_block_delta"


@pytest.mark.parametrize("told", [[], [usage(**USAGE)]], ids=["finish", "usage"])
async def test_s19_a_stream_that_has_finished_is_closed_soon(
    told: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = "QUIET_AFTER_USAGE" if told else "QUIET_AFTER_FINISH"
    monkeypatch.setattr(f"proxy.formats.openai_chat.stream.{limit}", 0.1)
    async with FakeProvider(stream(*CHUNKS, *told, Then.HANG)) as up:
        async with running_proxy(chat(up)) as proxy:
            async with asyncio.timeout(1.5):  # the other limit is longer
                found = await events(proxy)
            assert (said(found), found[-1]["type"]) == (["Hello"], "message_stop")
            await until(lambda: not up.open, "the upstream is cancelled")
            (call,) = await proxy.log(1)
            assert call.outcome == "answered"


async def test_s29_pings_come_after_the_commit_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.stream.PING_SECONDS", 0.03)
    begin, go_on = asyncio.Event(), asyncio.Event()
    parts: list[Part] = [ROLE, begin, d(content="Hel"), go_on, d(content="lo"), fin("stop"), DONE]
    async with FakeProvider(stream(*parts)) as up, running_proxy(chat(up)) as proxy:
        async with proxy.open() as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.15):
                    await client.head()
            begin.set()
            assert (await client.head())[0] == 200
            data = await client.chunk()
            while data.count(b"event: ping") < 4:
                data += await client.chunk()
            go_on.set()
            while chunk := await client.chunk():
                data += chunk
            found = events_in(data)
            assert said(found) == ["Hello"]
            assert kinds(found).count("ping") >= 4


async def test_s30_leaving_cancels_the_upstream_and_is_nobodys_failure() -> None:
    async with FakeProvider(stream(d(content="hi"), Then.HANG)) as up:
        async with FakeProvider(good()) as other:
            settings = {"max_cooldown": 300}
            providers = chat(up, "first"), chat(other, "second")
            async with running_proxy(*providers, settings=settings) as proxy:
                for number in range(3):
                    async with proxy.open() as client:
                        assert (await client.head())[0] == 200
                        client.leave()
                        await until(lambda: not up.open, "the upstream is cancelled", 1.0)
                    rows = await proxy.log(number + 1)
                    assert rows[-1].outcome == "cancelled"
                up.script(good())
                assert (await proxy.call())["x-ccf-attempts"] == "first=200"


async def test_s04_the_first_part_of_a_tool_call_does_not_wait_for_the_second() -> None:
    gate = asyncio.Event()
    parts: list[Part] = [
        tc(0, "call_1", "Bash", ""),
        tc(0, None, None, '{"c":'),
        gate,
        tc(0, None, None, "1}"),
        fin("tool_calls"),
        DONE,
    ]
    async with FakeProvider(stream(*parts)) as up, running_proxy(chat(up)) as proxy:
        async with proxy.open(body_of(tools=[tool("Bash")])) as client:
            assert (await client.head())[0] == 200
            data = b""
            while b"input_json_delta" not in data:
                data += await client.chunk()
            assert not gate.is_set()
            assert b'"partial_json":"{\\"c\\":"' in data
            gate.set()
            while chunk := await client.chunk():
                data += chunk
            assert said(events_in(data)) == [("call_1", "Bash", {"c": 1})]


# --- whole answers, and errors ------------------------------------------------------


@pytest.mark.parametrize("streaming", [True, False])
async def test_n12_what_is_no_answer_goes_to_the_next_provider_and_else_is_a_502(
    streaming: bool,
) -> None:
    empty = json.dumps({"id": "c", "choices": []}).encode()
    steps = [message(empty), reply(200, b"<html>"), reply(200, b"<html>", [STREAM_TYPE])]
    async with FakeProvider(*steps) as up, FakeProvider(good()) as other:
        async with running_proxy(chat(up, "first"), chat(other, "second")) as proxy:
            for _ in steps:
                answer = await proxy.call(body_of(streaming))
                assert (answer.status, answer["x-ccf-provider"]) == (200, "second")
            other.script(drop())
            up.script(message(empty))
            answer = await proxy.call(body_of(streaming))
            assert (answer.status, answer.error_type) == (502, "api_error")


BAD_KEY = {
    "401": openai_error(401, f"Incorrect API key provided: {PROVIDER_KEY}", code="invalid_api_key"),
    "403": openai_error(403, "Your key may not use this model"),
    "402": openai_error(402, "Insufficient credits"),
    "429 without quota": openai_error(
        429, "You exceeded your current quota", code="insufficient_quota"
    ),
}


@pytest.mark.parametrize("streaming", [True, False])
async def test_e01_our_bad_key_is_a_502_that_names_the_provider(streaming: bool) -> None:
    async with FakeProvider(*BAD_KEY.values()) as up, running_proxy(chat(up)) as proxy:
        for case in BAD_KEY:
            answer = await proxy.call(body_of(streaming))
            assert (answer.status, answer.error_type) == (502, "api_error"), case
            assert "provider llm rejected" in answer.json()["error"]["message"]
            assert answer["x-should-retry"] == "false"
            assert PROVIDER_KEY.encode() not in answer.body
        for (attempt,) in await proxy.attempts(len(BAD_KEY)):
            assert PROVIDER_KEY not in attempt.error_message


async def test_e02_a_limit_is_heard_with_its_retry_after() -> None:
    limit = openai_error(429, "Rate limit reached", headers=[(b"retry-after", b"7")])
    async with FakeProvider(limit) as up, running_proxy(chat(up)) as proxy:
        answer = await proxy.call()
        assert (answer.status, answer.error_type) == (429, "rate_limit_error")
        assert answer["retry-after"] == "7"
        assert answer.json()["request_id"] == answer["request-id"]


OVERFLOWS = {
    "This model's maximum context length is 128000 tokens. However, your messages resulted in "
    "130000 tokens.": "prompt is too long: 130000 tokens > 128000 maximum",
    "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).": (
        "prompt is too long: 1196265 tokens > 1048575 maximum"
    ),
    "the request exceeds the available context size": "prompt is too long",
}


async def test_e07_e08_an_overflow_is_told_in_the_words_that_make_claude_code_compact() -> None:
    async with FakeProvider(*[openai_error(400, text) for text in OVERFLOWS]) as up:
        async with running_proxy(chat(up)) as proxy:
            for told in OVERFLOWS.values():
                answer = await proxy.call()
                assert (answer.status, answer.error_type) == (400, "invalid_request_error")
                assert answer.json()["error"]["message"].startswith(told)


async def test_an_overflow_of_one_provider_does_not_keep_a_larger_one_from_answering() -> None:
    (text, *_) = OVERFLOWS
    async with FakeProvider(openai_error(400, text)) as up, FakeProvider(good()) as other:
        settings = {"max_cooldown": 300}
        async with running_proxy(chat(up, "s"), chat(other, "l"), settings=settings) as proxy:
            for _ in range(4):
                assert (await proxy.call())["x-ccf-attempts"] == "s=400,l=200"


# --- answered or refused without the provider -------------------------------------------


async def test_q49_a_request_for_no_output_is_answered_here() -> None:
    async with FakeProvider(good()) as up, running_proxy(chat(up)) as proxy:
        whole = await proxy.call(body_of(stream=False, max_tokens=0))
        document = whole.json()
        assert (document["content"], document["stop_reason"]) == ([], "max_tokens")
        assert document["usage"]["input_tokens"] > 0
        assert document["usage"]["output_tokens"] == 0
        found = [e for e in await events(proxy, max_tokens=0) if e["type"] != "ping"]
        assert kinds(found) == ["message_start", "message_delta", "message_stop"]
        assert ending(found)["delta"]["stop_reason"] == "max_tokens"
        assert up.requests == []
        for (attempt,) in await proxy.attempts(2):
            assert (attempt.provider, attempt.result) == ("llm", "local")


async def test_safeguards_are_refused_at_once_so_that_the_client_repeats_without_them() -> None:
    async with FakeProvider(good()) as up, FakeProvider(ok()) as other:
        async with running_proxy(chat(up), fallback(other)) as proxy:
            answer = await proxy.call(body_of(safeguards={"on": True}))
            assert (answer.status, answer.error_type) == (400, "invalid_request_error")
            expected = "safeguards: Extra inputs are not permitted"
            assert answer.json()["error"]["message"] == expected
            assert (up.requests, other.requests) == ([], [])


async def test_server_tools_prefer_a_provider_that_has_them() -> None:
    async with FakeProvider(good()) as up, FakeProvider(ok()) as other:
        async with running_proxy(chat(up), fallback(other)) as proxy:
            mcp = {"type": "mcp_toolset", "mcp_server_name": "files"}
            for tools in ([WEB_SEARCH], [tool("Bash"), WEB_SEARCH], [mcp]):
                answer = await proxy.call(body_of(tools=tools))
                assert answer["x-ccf-attempts"] == "openrouter=200"
            for tools in ([tool("Bash")], [{"type": "bash_20250124", "name": "bash"}], []):
                answer = await proxy.call(body_of(tools=tools))
                assert answer["x-ccf-attempts"] == "llm=200"
            other.script(refuse(529))
            answer = await proxy.call(body_of(tools=[WEB_SEARCH]))
            assert answer["x-ccf-attempts"] == "openrouter=529,llm=200"


# --- counting tokens ----------------------------------------------------------------------


async def count(proxy: Proxy, content: Any = "Hi", **fields: Any) -> int:
    document = {"model": "m", "messages": [{"role": "user", "content": content}], **fields}
    answer: Reply = await proxy.call(
        json.dumps(document).encode(), target="/v1/messages/count_tokens"
    )
    assert answer.status == 200, answer.body
    assert answer.json().keys() == {"input_tokens"}
    return int(answer.json()["input_tokens"])


async def test_c01_c03_tokens_are_estimated_as_they_would_be_sent() -> None:
    async with FakeProvider(good()) as up, running_proxy(chat(up)) as proxy:
        least = await count(proxy)
        assert least >= 1
        assert await count(proxy, "Hi, how are you today, my friend?") > least
        assert await count(proxy, tools=[tool("Bash")]) > least
        image = {"type": "base64", "media_type": "image/png", "data": "A" * 2_000_000}
        assert await count(proxy, [{"type": "image", "source": image}]) - least < 5000
        assert await count(proxy, "\u4f60\u597d\u4e16\u754c" * 25) >= 60
        assert await count(proxy, tools=[WEB_SEARCH]) == least
        assert up.requests == []


async def test_c02_a_provider_that_cannot_count_is_none_the_worse_for_it() -> None:
    async with FakeProvider(refuse(404)) as up, FakeProvider(good()) as other:
        settings = {"max_cooldown": 300}
        async with running_proxy(primary(up), chat(other), settings=settings) as proxy:
            for _ in range(4):
                assert await count(proxy) >= 1
            assert other.requests == []
            up.script(ok())
            assert (await proxy.call())["x-ccf-attempts"] == "anthropic-primary=200"


# --- thinking goes back to where it came from --------------------------------------------------


async def test_thinking_goes_back_to_its_maker_and_to_nobody_else() -> None:
    thinks = stream(
        d(role="assistant", reasoning_content="Let me see"), d(content="Hello"), fin("stop"), DONE
    )
    profile = {"reasoning_history": "reasoning_content"}
    async with (
        FakeProvider(refuse(529)) as up,
        FakeProvider(thinks) as maker,
        FakeProvider(ok()) as other,
        FakeProvider(good()) as stranger,
    ):
        async with running_proxy(
            primary(up),
            chat(maker, profile=profile),
            fallback(other),
            chat(stranger, "stranger", profile=profile),
        ) as proxy:
            first = await proxy.call(body_of(**THINKING))
            blocks = blocks_in(events_in(first.body))
            assert [block["type"] for block in blocks] == ["thinking", "text"]
            assert blocks[0]["signature"].startswith("ccf1.")
            turns = [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": blocks},
                {"role": "user", "content": "And now?"},
            ]
            body = body_of(messages=turns, **THINKING)

            await proxy.call(body)
            assert json.loads(maker.requests[-1].body)["messages"][1] == {
                "role": "assistant",
                "content": "Hello",
                "reasoning_content": "Let me see",
            }
            maker.script(refuse(529))
            answer = await proxy.call(body)
            expected = "anthropic-primary=529,llm=529,openrouter=200"
            assert answer["x-ccf-attempts"] == expected
            for request in (up.requests[-1], other.requests[-1]):
                assert b"ccf1." not in request.body
                assert b"Let me see" not in request.body
                assert json.loads(request.body)["messages"][1]["content"] == [blocks[1]]
            other.script(refuse(529))
            await proxy.call(body)
            assert b"ccf1." not in stranger.requests[-1].body


async def test_a_token_count_carries_no_thinking_that_its_reader_would_refuse() -> None:
    thinking = {"type": "thinking", "thinking": "t", "signature": "ccf1.eJw"}
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [thinking, {"type": "text", "text": "Hello"}]},
        {"role": "user", "content": "And now?"},
    ]
    async with FakeProvider(reply(200, b'{"input_tokens":9}')) as up:
        async with running_proxy(primary(up)) as proxy:
            assert await count(proxy, messages=turns) == 9
            assert b"ccf1." not in up.requests[0].body
