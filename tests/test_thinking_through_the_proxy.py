"""Everybody gets back the thinking that it has signed, and nobody else's, at the first try."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from providers.models import SignatureOrigin
from tests.proxy import (
    WITH_DATABASE,
    Proxy,
    body_of,
    chat,
    fallback,
    primary,
    running_proxy,
    serving,
)
from tests.raw_http import Reply
from tests.upstreams import (
    Connection,
    FakeProvider,
    Received,
    Step,
    either,
    event,
    message,
    ok,
    refuse,
    stream,
)

pytestmark = WITH_DATABASE

Json = dict[str, Any]
OURS, THEIRS = "EqQBprimary", "EqQBfallback"
THINKING = {"thinking": {"type": "adaptive"}}


def thought(signature: str) -> Json:
    return {"type": "thinking", "thinking": f"signed {signature}", "signature": signature}


def redacted(data: str) -> Json:
    return {"type": "redacted_thinking", "data": data}


def thinks(*blocks: Json) -> Step:
    """An answer that begins with these blocks, streamed or whole."""
    content = [*blocks, {"type": "text", "text": "Hello"}]
    whole: Json = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "x",
        "content": content,
    }
    whole |= {"stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1}}
    start = event("message_start", message={**whole, "content": [], "stop_reason": None})
    parts = [start]
    for index, block in enumerate(content):
        parts += as_events(index, block)
    parts.append(event("message_delta", delta={"stop_reason": "end_turn"}, usage={}))
    return either(stream(*parts, event("message_stop")), message(json.dumps(whole).encode()))


def as_events(index: int, block: Json) -> Iterable[bytes]:
    if block["type"] != "thinking":
        yield event("content_block_start", index=index, content_block=block)
    else:
        empty = {"type": "thinking", "thinking": "", "signature": ""}
        yield event("content_block_start", index=index, content_block=empty)
        for kind, field in (("thinking_delta", "thinking"), ("signature_delta", "signature")):
            delta = {"type": kind, field: block[field]}
            yield event("content_block_delta", index=index, delta=delta)
    yield event("content_block_stop", index=index)


def signed_by(signature: str, then: Step) -> Step:
    """A provider that takes no thinking but its own, as the real ones do."""

    async def step(connection: Connection, request: Received) -> None:
        blocks = thinking_in(request)
        known = {block.get("signature") or block.get("data") for block in blocks}
        if any(not str(found).startswith(signature) for found in known):
            text = "messages.1.content.0: Invalid `signature` in `thinking` block"
            return await refuse(400, text, "invalid_request_error")(connection, request)
        return await then(connection, request)

    return step


def thinking_in(request: Received) -> list[Json]:
    return [
        block
        for turn in json.loads(request.body)["messages"]
        if isinstance(turn["content"], list)
        for block in turn["content"]
        if block["type"] in ("thinking", "redacted_thinking")
    ]


def history(*answers: list[Json], stream: bool = True, **fields: Any) -> bytes:
    """A conversation with these answers so far."""
    messages: list[Json] = [{"role": "user", "content": "Hi"}]
    for blocks in answers:
        content = [*blocks, {"type": "text", "text": "Hello"}]
        messages.append({"role": "assistant", "content": content})
        messages.append({"role": "user", "content": "And now?"})
    return body_of(stream, **{"messages": messages, **THINKING, **fields})


async def ask(proxy: Proxy, body: bytes) -> Reply:
    answer = await proxy.call(body)
    assert answer.status == 200, answer.body
    return answer


FALLEN = "anthropic-primary=529,openrouter=200"
SERVED = "anthropic-primary=200"


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("form", [thought, redacted])
async def test_going_back_and_forth_each_sees_only_what_it_has_signed(
    streaming: bool, form: Any
) -> None:
    mine, other_ones = form(OURS), form(THEIRS)
    primary_answers = signed_by(OURS, thinks(mine))
    fallback_answers = signed_by(THEIRS, thinks(other_ones))
    async with FakeProvider(primary_answers) as up, FakeProvider(fallback_answers) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            first = await ask(proxy, history(stream=streaming))
            assert first["x-ccf-attempts"] == SERVED

            up.script(refuse(529))
            second = await ask(proxy, history([mine], stream=streaming))
            assert second["x-ccf-attempts"] == FALLEN
            assert thinking_in(up.requests[-1]) == [mine]
            assert thinking_in(other.requests[-1]) == []

            up.script(primary_answers)
            third = await ask(proxy, history([mine], [other_ones], stream=streaming))
            assert third["x-ccf-attempts"] == SERVED
            assert thinking_in(up.requests[-1]) == [mine]

            up.script(refuse(529))
            fourth = await ask(proxy, history([mine], [other_ones], [mine], stream=streaming))
            assert fourth["x-ccf-attempts"] == FALLEN
            assert thinking_in(other.requests[-1]) == [other_ones]


async def test_what_the_primary_has_signed_itself_goes_to_it_byte_for_byte() -> None:
    mine, theirs = thought(OURS), thought(THEIRS)
    async with FakeProvider(thinks(mine)) as up, FakeProvider(thinks(theirs)) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            await ask(proxy, history())
            up.script(refuse(529))
            await ask(proxy, history())
            up.script(ok())
            unknown = thought("EqQBof-another-installation")
            body = history([mine], [unknown]).replace(b": ", b" :  ")
            await ask(proxy, body)
            assert up.requests[0].body == body


async def test_unknown_signatures_are_refused_once_and_not_sent_there_again() -> None:
    """A new database: nobody knows who has signed what the conversation already holds."""
    unknown, theirs = thought("EqQBof-another-installation"), thought(THEIRS)
    answers = signed_by(THEIRS, thinks(theirs))
    async with FakeProvider(refuse(529)) as up, FakeProvider(answers) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            await ask(proxy, history([unknown]))
            assert [thinking_in(request) for request in other.requests] == [[unknown], []]
            await ask(proxy, history([unknown], [theirs]))
            assert [thinking_in(request) for request in other.requests[2:]] == [[theirs]]
            # Whose it is remains open: the primary may have signed it.
            up.script(ok())
            await ask(proxy, history([unknown], [theirs]))
            assert thinking_in(up.requests[-1]) == [unknown]


async def test_a_refusal_does_not_take_from_a_provider_what_it_has_signed() -> None:
    mine, theirs = thought(OURS), thought(THEIRS)
    forgetful = refuse(400, "messages.1.content.0: Invalid `signature` in `thinking` block")
    async with FakeProvider(refuse(529)) as up, FakeProvider(thinks(theirs)) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            await ask(proxy, history())
            other.script(forgetful, ok())
            await ask(proxy, history([theirs], [mine]))
            other.script(ok())
            await ask(proxy, history([theirs], [mine]))
            assert thinking_in(other.requests[-1]) == [theirs]


async def test_other_workers_know_who_has_signed_and_a_restart_forgets_nothing() -> None:
    theirs = thought(THEIRS)
    fallen = signed_by(THEIRS, thinks(theirs))
    async with FakeProvider(refuse(529)) as up, FakeProvider(fallen) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            async with serving(proxy.token) as second:
                await ask(proxy, history())
                up.script(signed_by(OURS, ok()))
                await proxy.share()
                await second.share()
                assert (await ask(second, history([theirs])))["x-ccf-attempts"] == SERVED
        async with serving(proxy.token) as again:
            assert (await ask(again, history([theirs])))["x-ccf-attempts"] == SERVED
            assert len(up.requests) == 2


async def test_a_provider_that_repeats_the_signature_of_another_does_not_own_it() -> None:
    """Neither at the worker that saw both, nor at one that has only read of them."""
    mine = thought(OURS)
    repeats = fallback("http://unused", profile={"keep_thinking": True})
    async with FakeProvider(thinks(mine)) as up, FakeProvider(thinks(mine)) as other:
        repeats.base_url = other.url
        async with running_proxy(primary(up), repeats) as proxy:
            await ask(proxy, history())
            await proxy.share()
            up.script(refuse(529))
            assert (await ask(proxy, history([mine])))["x-ccf-attempts"] == FALLEN
            assert thinking_in(other.requests[-1]) == [mine]
            up.script(ok())
            await ask(proxy, history([mine]))
            assert thinking_in(up.requests[-1]) == [mine]
            await proxy.share()
        async with serving(proxy.token) as again:
            await ask(again, history([mine]))
            assert thinking_in(up.requests[-1]) == [mine]


async def test_of_two_workers_the_first_to_see_a_signature_is_believed() -> None:
    mine = thought(OURS)
    repeats = fallback("http://unused", profile={"keep_thinking": True})
    async with FakeProvider(thinks(mine)) as up, FakeProvider(thinks(mine)) as other:
        repeats.base_url = other.url
        async with running_proxy(primary(up), repeats) as proxy:
            async with serving(proxy.token) as second:
                await ask(proxy, history())
                await proxy.share()
                up.script(refuse(529))
                await ask(second, history([mine]))
                await second.share()
                await proxy.share()
                up.script(ok())
                for worker in (proxy, second):
                    await ask(worker, history([mine]))
                    assert thinking_in(up.requests[-1]) == [mine]


async def test_a_turn_that_loses_its_thinking_inside_a_tool_loop_goes_without() -> None:
    """With thinking "enabled" the primary insists on thinking at the start of that turn."""
    theirs = thought(THEIRS)
    call = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "ok"}
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [theirs, call]},
        {"role": "user", "content": [result]},
    ]
    async with FakeProvider(refuse(529), ok()) as up, FakeProvider(thinks(theirs)) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            await ask(proxy, history())
            enabled = {"type": "enabled", "budget_tokens": 1024}
            await ask(proxy, body_of(messages=messages, thinking=enabled, max_tokens=4096))
            sent = json.loads(up.requests[-1].body)
            assert sent["messages"][1]["content"] == [call]
            assert "thinking" not in sent


async def test_k03_thinking_of_this_proxys_own_making_is_left_out_before_the_first_try() -> None:
    """What the providers have signed stays as it is, to the byte."""
    native = thought("EqQBnative/+==")
    minted = thought("ccf1.eJwDAAAAAAE")
    async with FakeProvider(ok()) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            body = history([minted], [native], [minted])
            assert (await ask(proxy, body))["x-ccf-attempts"] == SERVED
            up.script(refuse(529))
            assert (await ask(proxy, body))["x-ccf-attempts"] == FALLEN
            for request in (up.requests[0], other.requests[0]):
                assert thinking_in(request) == [native]
                assert json.dumps(native, separators=(",", ":")).encode() in request.body


@pytest.mark.parametrize("enabled", [True, False])
async def test_k03_that_is_so_amid_a_conversation_too(enabled: bool) -> None:
    """Where a provider is configured whose thinking this proxy signs; one that is disabled now
    may have answered before."""
    minted = thought("ccf1.eJwDAAAAAAE")
    session = [("x-claude-code-session-id", "s-1")]
    async with FakeProvider(ok()) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), chat(other, enabled=enabled)) as proxy:
            for answers in ([], [[minted]], [[minted], [minted]]):
                await proxy.call(history(*answers), extra=session)
                assert thinking_in(up.requests[-1]) == []


async def test_a_conversation_goes_on_when_its_thinking_has_come_from_elsewhere() -> None:
    """No provider here could have made it: then nobody has looked, and it is mended."""
    minted = thought("ccf1.eJwDAAAAAAE")
    session = [("x-claude-code-session-id", "s-1")]
    async with FakeProvider(signed_by(THEIRS, ok())) as up:
        async with running_proxy(fallback(up)) as proxy:
            for answers in ([], [[minted]], [[minted]]):
                assert (await proxy.call(history(*answers), extra=session)).status == 200
            assert [len(thinking_in(request)) for request in up.requests] == [0, 1, 0, 0]


async def test_what_the_fallback_has_not_signed_is_found_amid_a_conversation() -> None:
    mine = thought(OURS)
    session = [("x-claude-code-session-id", "s-1")]
    async with FakeProvider(thinks(mine)) as up, FakeProvider(signed_by(THEIRS, ok())) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            for answers in ([], [[mine]]):
                await proxy.call(history(*answers), extra=session)
            up.script(refuse(529))
            answer = await proxy.call(history([mine], [mine]), extra=session)
            assert (answer["x-ccf-attempts"], len(other.requests)) == (FALLEN, 1)


async def test_a_provider_may_be_set_to_keep_all_thinking() -> None:
    theirs = thought(THEIRS)
    async with FakeProvider(ok()) as up, FakeProvider(thinks(theirs)) as other:
        relay = fallback(up, "relay", profile={"keep_thinking": True})
        async with running_proxy(fallback(other, "other"), relay) as proxy:
            await ask(proxy, history())
            other.script(refuse(529))
            body = history([theirs])
            await ask(proxy, body)
            assert up.requests[-1].body == body


async def test_only_so_many_signatures_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("knowledge", "knowledge_store"):
        monkeypatch.setattr(f"providers.{module}.MAX_SIGNATURES", 5)
    signatures = [f"EqQB{number}" for number in range(12)]
    steps = [thinks(thought(signature)) for signature in signatures]
    async with FakeProvider(*steps) as up, FakeProvider(ok()) as other:
        async with running_proxy(fallback(up, "first"), fallback(other, "second")) as proxy:
            for number in range(12):
                await ask(proxy, history(stream=number % 2 == 0))
                if number == 7:
                    await proxy.share()
            await proxy.share()
            up.script(refuse(529))
            await ask(proxy, history([thought(signatures[0])], [thought(signatures[-1])]))
            # The oldest is forgotten: it might be anybody's, and is left where it is.
            assert thinking_in(other.requests[-1]) == [thought(signatures[0])]
            assert await sync_to_async(SignatureOrigin.objects.count)() == 5


async def test_a_signature_is_kept_as_a_hash_alone() -> None:
    async with FakeProvider(thinks(thought(OURS))) as up, running_proxy(primary(up)) as proxy:
        await ask(proxy, history())
        await proxy.share()
        (row,) = await sync_to_async(lambda: list(SignatureOrigin.objects.values()))()
        assert len(row["digest"]) == 16
        assert OURS not in str(row)
