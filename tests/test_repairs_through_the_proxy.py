"""Refusals that can be mended, on real sockets: mended once, remembered, never told in words."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.apps import apps

from providers.models import ConfigurationVersion, LearnedFact, Provider
from proxy.formats.estimate import estimate_input_tokens
from proxy.models import Attempt, RequestLog
from proxy.rectifiers.fit import MARGIN
from tests.openai_dialect import completion
from tests.proxy import (
    WITH_DATABASE,
    Proxy,
    body_of,
    chat,
    fallback,
    primary,
    running_proxy,
    serving,
    until,
)
from tests.upstreams import (
    MESSAGE,
    STREAM,
    FakeProvider,
    Received,
    Step,
    message,
    ok,
    refuse,
    reply,
)

pytestmark = WITH_DATABASE

CANARY = "canary-5b1d"
"""Words of the user's, in every place that has some."""

SIGNATURE = "messages.1.content.0: Invalid `signature` in `thinking` block"
THOUGHT = {"type": "thinking", "thinking": f"hm {CANARY}", "signature": f"EqQB{CANARY}"}
HELLO = {"type": "text", "text": f"Hello {CANARY}"}
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": f"Hi {CANARY}"},
    {"role": "assistant", "content": [THOUGHT, HELLO]},
    {"role": "user", "content": f"And now? {CANARY}"},
]


def invalid(text: str, status: int = 400, **fields: Any) -> Step:
    return refuse(status, text, "invalid_request_error", **fields)


def with_history(stream: bool = True, **fields: Any) -> bytes:
    return body_of(stream, **{"messages": TURNS, **fields})


def document(request: Received) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.body)
    return found


async def trail(proxy: Proxy, body: bytes | None = None) -> str | None:
    return (await proxy.call(body or with_history()))["x-ccf-attempts"]


# --- one refusal, one retry --------------------------------------------------------


@pytest.mark.parametrize("streaming", [True, False])
async def test_k01_a_foreign_signature_is_mended_with_one_retry(streaming: bool) -> None:
    async with FakeProvider(invalid(SIGNATURE), ok()) as up:
        async with running_proxy(fallback(up)) as proxy:
            answer = await proxy.call(with_history(streaming))
            assert answer.status == 200
            assert answer.body == (b"".join(STREAM) if streaming else MESSAGE)
            assert answer["x-ccf-attempts"] == "openrouter=400,openrouter=200"
            refused, mended = map(document, up.requests)
            assert refused["messages"] == TURNS
            assert mended["messages"][1]["content"] == [HELLO]
            assert {**mended, "messages": TURNS} == refused
            (call,) = await proxy.log(1)
            assert (call.outcome, call.fell_back) == ("answered", False)


async def test_k01_the_same_refusal_again_is_the_end_and_the_original_one_is_heard() -> None:
    first, second = f"{SIGNATURE} (first)", f"{SIGNATURE} (second)"
    async with FakeProvider(invalid(first), invalid(second), ok()) as up:
        async with running_proxy(fallback(up)) as proxy:
            answer = await proxy.call(with_history())
            assert (answer.status, len(up.requests)) == (400, 2)
            assert answer.json()["error"]["message"] == first


async def test_what_repairs_cannot_mend_goes_to_the_next_provider_from_the_original() -> None:
    async with FakeProvider(invalid(SIGNATURE)) as up, FakeProvider(ok()) as other:
        providers = fallback(up, "first"), fallback(other, "second")
        async with running_proxy(*providers) as proxy:
            body = with_history()
            assert await trail(proxy, body) == "first=400,first=400,second=200"
            assert other.requests[0].body == body


async def test_a_failure_after_a_repair_is_heard_as_what_it_is() -> None:
    async with FakeProvider(invalid(SIGNATURE), refuse(529, "busy")) as up:
        async with running_proxy(fallback(up)) as proxy:
            assert (await proxy.call(with_history())).status == 529


async def test_k01_claude_code_mends_what_the_primary_refuses_by_itself() -> None:
    body = b'{"error" :  {"type":"invalid_request_error","message":"%b"}}' % SIGNATURE.encode()
    async with FakeProvider(reply(400, body)) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            answer = await proxy.call(with_history())
            assert (answer.status, answer.body) == (400, body)
            assert (len(up.requests), other.requests) == (1, [])


async def test_k01_a_repair_can_be_switched_on_for_the_primary() -> None:
    async with FakeProvider(invalid(SIGNATURE), ok()) as up:
        provider = primary(up, profile={"repairs": {"thinking_signature": True}})
        async with running_proxy(provider) as proxy:
            assert await trail(proxy) == "anthropic-primary=400,anthropic-primary=200"
            assert document(up.requests[1])["messages"][1]["content"] == [HELLO]


@pytest.mark.parametrize(
    "step",
    [
        invalid(SIGNATURE, 429),
        invalid(SIGNATURE, 500),
        invalid("invalid request: malformed JSON"),
    ],
    ids=["429", "500", "other words"],
)
async def test_k02_other_refusals_are_not_mended(step: Step) -> None:
    async with FakeProvider(step) as up, FakeProvider(ok()) as other:
        async with running_proxy(fallback(up, "first"), fallback(other, "second")) as proxy:
            assert (await proxy.call(with_history()))["x-ccf-provider"] == "second"
            assert len(up.requests) == 1


# --- fields and betas ------------------------------------------------------------------

BETAS = "oauth-2025-04-20,effort-2025-11-24,context-management-2025-06-27"
UNKNOWN_BETA = "Unexpected value(s) `effort-2025-11-24` for the `anthropic-beta` header"


async def test_k12_a_field_that_the_provider_does_not_know_is_left_out() -> None:
    refused = invalid("context_management: Extra inputs are not permitted")
    async with FakeProvider(refused, ok()) as up, running_proxy(fallback(up)) as proxy:
        body = with_history(context_management={"edits": []}, metadata={"user_id": "u"})
        assert await trail(proxy, body) == "openrouter=400,openrouter=200"
        before, after = map(document, up.requests)
        assert before.pop("context_management") == {"edits": []}
        assert after == before


async def test_k13_a_beta_goes_from_the_header_and_the_body_together() -> None:
    async with FakeProvider(invalid(UNKNOWN_BETA), ok()) as up:
        async with running_proxy(fallback(up)) as proxy:
            wanted = {"effort": "high", "format": {"type": "json_schema"}}
            body = with_history(output_config=wanted, context_management={"edits": []})
            answer = await proxy.call(body, extra=[("anthropic-beta", BETAS)])
            assert answer.status == 200
            assert up.requests[0].values("anthropic-beta") == [BETAS.encode()]
            kept = b"oauth-2025-04-20,context-management-2025-06-27"
            assert up.requests[1].values("anthropic-beta") == [kept]
            mended = document(up.requests[1])
            assert mended["output_config"] == {"format": {"type": "json_schema"}}
            assert mended["context_management"] == {"edits": []}


async def test_k23_a_mapping_is_applied_once() -> None:
    async with FakeProvider(invalid(SIGNATURE), ok()) as up:
        mapped = {"openrouter": {"a": "b", "b": "c"}}
        async with running_proxy(fallback(up), mappings=mapped) as proxy:
            await proxy.call(with_history(model="a"))
            assert [document(request)["model"] for request in up.requests] == ["b", "b"]


# --- switches, health, retries -------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [{"repairs": False}, {"disabled_repairs": ["thinking_signature"]}]
)
async def test_k24_without_repairs_there_is_no_second_try(settings: dict[str, Any]) -> None:
    async with FakeProvider(invalid(SIGNATURE)) as up, FakeProvider(ok()) as other:
        providers = fallback(up, "first"), fallback(other, "second")
        async with running_proxy(*providers, settings=settings) as proxy:
            assert await trail(proxy) == "first=400,second=200"


async def test_k24_a_provider_that_answers_after_a_repair_is_healthy() -> None:
    steps = [refuse(500), refuse(500), invalid(SIGNATURE), ok(), refuse(500), refuse(500), ok()]
    async with FakeProvider(*steps) as up, FakeProvider(ok()) as other:
        providers = fallback(up, "first"), fallback(other, "second")
        async with running_proxy(*providers, settings={"max_cooldown": 300}) as proxy:
            trails = [await trail(proxy) for _ in range(6)]
            assert trails == [
                "first=500,second=200",
                "first=500,second=200",
                "first=400,first=200",
                "first=500,second=200",
                "first=500,second=200",
                "first=200",
            ]


async def test_a_repair_takes_nothing_from_the_retries() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async with FakeProvider(invalid(SIGNATURE), refuse(500), ok()) as up:
        async with running_proxy(fallback(up, retries=1), sleep=sleep) as proxy:
            assert await trail(proxy) == "openrouter=400,openrouter=500,openrouter=200"
            (attempts,) = await proxy.attempts()
            assert [a.kind for a in attempts] == ["tried", "repaired", "retried"]
            assert document(up.requests[2])["messages"][1]["content"] == [HELLO]
            up.script(refuse(500), invalid(SIGNATURE), ok())
            other_thought = with_history().replace(b"EqQB", b"EqQBother")
            assert (
                await trail(proxy, other_thought) == "openrouter=500,openrouter=400,openrouter=200"
            )
            assert len(waits) == 2


# --- what is learned -----------------------------------------------------------------------

TOKENS_FIELD = json.dumps(
    {
        "error": {
            "message": "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            "type": "invalid_request_error",
            "param": "max_tokens",
            "code": "unsupported_parameter",
        }
    }
).encode()
MODERN = "max_completion_tokens"


async def particular(connection: Any, request: Received) -> None:
    """A provider whose model "new" wants the output limit in another field."""
    body = document(request)
    if body["model"] == "new" and "max_tokens" in body:
        return await reply(400, TOKENS_FIELD)(connection, request)
    return await message(completion({"content": "Hello"}))(connection, request)


def plain(model: str = "new") -> bytes:
    return body_of(stream=False, model=model)


async def test_k17_what_helped_is_known_from_the_next_call_on_for_that_model() -> None:
    async with FakeProvider(particular) as up, running_proxy(chat(up)) as proxy:
        assert await trail(proxy, plain()) == "llm=400,llm=200"
        assert await trail(proxy, plain()) == "llm=200"
        assert document(up.requests[2])[MODERN] == 64
        assert await trail(proxy, plain("old")) == "llm=200"
        assert document(up.requests[3])["max_tokens"] == 64


async def test_k17_other_workers_know_it_and_a_restart_forgets_nothing() -> None:
    async with FakeProvider(particular) as up:
        async with running_proxy(chat(up)) as proxy, serving(proxy.token) as second:
            assert await trail(proxy, plain()) == "llm=400,llm=200"
            await proxy.share()
            await second.share()
            assert await trail(second, plain()) == "llm=200"
        async with serving(proxy.token) as again:
            assert await trail(again, plain()) == "llm=200"
            (fact,) = await sync_to_async(lambda: list(LearnedFact.objects.all()))()
            assert (fact.model, fact.key, fact.value) == ("new", "max_tokens_field", MODERN)
            assert fact.repair == "max_tokens_field"
            await sync_to_async(fact.delete)()
            await sync_to_async(ConfigurationVersion.bump)("knowledge")
            await again.share()
            assert await trail(again, plain()) == "llm=400,llm=200"


async def test_an_operators_own_switch_is_stronger_than_what_was_learned() -> None:
    async with FakeProvider(particular) as up, running_proxy(chat(up)) as proxy:
        assert await trail(proxy, plain()) == "llm=400,llm=200"
        provider = await sync_to_async(Provider.objects.get)()
        provider.profile = {"max_tokens_field": "max_tokens"}
        await sync_to_async(provider.save)()
        await proxy.share()
        for _ in range(2):
            assert await trail(proxy, plain()) == "llm=400,llm=200"


async def test_a_repair_that_did_not_help_teaches_nothing() -> None:
    async with FakeProvider(reply(400, TOKENS_FIELD)) as up, running_proxy(chat(up)) as proxy:
        for _ in range(2):
            assert await trail(proxy, plain()) == "llm=400,llm=400"
        await proxy.share()
        assert await sync_to_async(LearnedFact.objects.count)() == 0


async def test_what_is_known_of_an_anthropic_provider_is_left_out_at_once() -> None:
    refused = invalid("context_management: Extra inputs are not permitted")
    steps = [refused, invalid(UNKNOWN_BETA), ok()]
    async with FakeProvider(*steps) as up, running_proxy(fallback(up)) as proxy:
        body = with_history(context_management={"edits": []}, output_config={"effort": "low"})
        beta = [("anthropic-beta", BETAS)]
        for _ in range(2):
            assert (await proxy.call(body, extra=beta)).status == 200
        assert len(up.requests) == 4
        known = up.requests[3]
        assert known.values("anthropic-beta") == [b"oauth-2025-04-20,context-management-2025-06-27"]
        assert not document(known).keys() & {"context_management", "output_config"}


# --- the history ---------------------------------------------------------------------------


def short_hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]


async def test_the_history_tells_whether_the_body_was_sent_as_it_came() -> None:
    async with FakeProvider(refuse(529)) as up, FakeProvider(invalid(SIGNATURE), ok()) as other:
        mapped = {"openrouter": {"claude-*": "mapped"}}
        async with running_proxy(primary(up), fallback(other), mappings=mapped) as proxy:
            body = with_history()
            await proxy.call(body)
            (call,) = await proxy.log(1)
            ((first, second, third),) = await proxy.attempts()
            assert call.body_hash == first.body_hash == short_hash(body)
            assert [a.unmodified for a in (first, second, third)] == [True, False, False]
            sent = [short_hash(request.body) for request in other.requests]
            assert [second.body_hash, third.body_hash] == sent


async def test_repairs_are_told_by_name_place_and_size_and_never_in_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    steps = [
        invalid(SIGNATURE),
        invalid("context_management: Extra inputs are not permitted"),
        invalid(UNKNOWN_BETA),
        ok(),
    ]
    edits = {"edits": [{"type": "x", "of": CANARY}]}
    call = {"type": "tool_use", "id": "t1", "name": "B", "input": {"command": CANARY}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": CANARY}
    turns = [
        *TURNS[:1],
        {"role": "assistant", "content": [THOUGHT, call]},
        {"role": "user", "content": [result]},
    ]
    body = with_history(
        messages=turns,
        system=[{"type": "text", "text": CANARY}],
        metadata={"user_id": CANARY},
        context_management=edits,
        output_config={"effort": "high"},
    )
    async with FakeProvider(*steps) as up, running_proxy(fallback(up)) as proxy:
        answer = await proxy.call(body, extra=[("anthropic-beta", BETAS)])
        assert answer.status == 200
        (attempts,) = await proxy.attempts()
        assert [a.kind for a in attempts] == ["tried", *["repaired"] * 3]
        assert [len(a.repairs) for a in attempts] == [0, 1, 2, 3]
        names = [repair["name"] for repair in attempts[-1].repairs]
        assert names == ["thinking_signature", "extra_inputs", "beta_header"]
        (dropped,) = attempts[1].repairs[0]["changes"]
        size = len(json.dumps(THOUGHT, separators=(",", ":")))
        assert dropped == {"path": "messages.1.content.0", "op": "removed", "bytes": size}
        await proxy.share()
    written = await everything_written()
    assert "thinking_signature" in written
    assert CANARY not in written
    logged = [str(vars(record)) for record in caplog.records]
    assert any("provider.failure" in line for line in logged)
    assert not any(CANARY in line for line in logged)


@sync_to_async
def everything_written() -> str:
    """All rows of the proxy's own tables."""
    models = [
        *apps.get_app_config("proxy").get_models(),
        *apps.get_app_config("providers").get_models(),
    ]
    assert RequestLog in models
    assert Attempt in models
    return "\n".join(str(row) for model in models for row in model._default_manager.values())


# --- the billing header -----------------------------------------------------------------------

HEADER = "x-anthropic-billing-header: cc_version=2.1.38.713; cc_entrypoint=sdk-ts;"


def billed(cch: str) -> bytes:
    """As Claude Code writes it, but with spaces that a second encoding would lose."""
    quoted = f"what is {HEADER} cch=1; about?"
    system = [
        {"type": "text", "text": f"{HEADER} cch={cch};"},
        {"type": "text", "text": quoted, "cache_control": {"type": "ephemeral"}},
    ]
    messages = [{"role": "user", "content": quoted}]
    return json.dumps(
        {"model": "m", "max_tokens": 9, "system": system, "messages": messages}, indent=1
    ).encode()


async def test_b03_b05_only_third_parties_lose_the_changing_part_of_the_billing_header() -> None:
    async with FakeProvider(refuse(529)) as up, FakeProvider(message()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            for cch in ("90d92", "a7754"):
                await proxy.call(billed(cch))
            assert [request.body for request in up.requests] == [billed("90d92"), billed("a7754")]
            first, second = (request.body for request in other.requests)
            assert first == second == billed("90d92").replace(b"cch=90d92;", b"", 1)


async def test_b03_an_operator_may_have_it_kept() -> None:
    async with FakeProvider(message()) as other:
        provider = fallback(other, profile={"billing_block": "keep"})
        async with running_proxy(provider) as proxy:
            await proxy.call(billed("90d92"))
            assert other.requests[0].body == billed("90d92")


# --- the size of requests ----------------------------------------------------------------------

LONG = "word " * 20_000


async def test_a_call_is_not_sent_to_a_provider_whose_context_is_too_small() -> None:
    async with FakeProvider(ok()) as small, FakeProvider(ok()) as large:
        providers = (
            fallback(small, "small", context_window=8000),
            fallback(large, "large", context_window=200_000),
        )
        async with running_proxy(*providers) as proxy:
            messages = [{"role": "user", "content": LONG}]
            assert await trail(proxy, body_of(messages=messages)) == "small=skipped,large=200"
            assert await trail(proxy, body_of()) == "small=200"
            skipped = (await proxy.attempts(2))[0][0]
            assert skipped.kind == "skipped"
            assert skipped.error_message.startswith("does not fit: about ")
            assert small.requests[0].body == body_of()


async def test_a_call_that_fits_nobody_who_could_answer_is_told_so_that_claude_code_compacts() -> (
    None
):
    limit = [(b"retry-after", b"900")]
    step = refuse(429, "slow down", "rate_limit_error", limit)
    async with FakeProvider(step) as up, FakeProvider(ok()) as small:
        providers = primary(up), fallback(small, context_window=8000)
        async with running_proxy(*providers, settings={"max_cooldown": 300}) as proxy:
            body = body_of(messages=[{"role": "user", "content": LONG}])
            answer = await proxy.call(body)
            assert (answer.status, answer["retry-after"]) == (429, "900")
            answer = await proxy.call(body)
            assert (answer.status, answer.error_type) == (400, "invalid_request_error")
            told = answer.json()["error"]["message"]
            number = told.removeprefix("prompt is too long: ").split()[0]
            assert told == f"prompt is too long: {number} tokens > 8000 maximum"
            assert 8000 < int(number) < 100_000
            assert (len(up.requests), small.requests) == (1, [])


@pytest.mark.parametrize("streaming", [True, False])
async def test_no_more_output_is_asked_for_than_the_context_has_room_for(streaming: bool) -> None:
    spoken = message(completion({"content": "Hello"}))
    async with FakeProvider(refuse(529)) as up, FakeProvider(refuse(529)) as other:
        async with FakeProvider(refuse(529), spoken) as llm:
            providers = (
                primary(up, context_window=200_000),
                fallback(other, context_window=150_000, max_output_tokens=64_000),
                chat(llm, context_window=131_072, profile={"max_output_tokens": 100_000}),
            )
            async with running_proxy(*providers) as proxy:
                turns = [{"role": "user", "content": "word " * 70_000}]
                prompt = estimate_input_tokens({"messages": turns})
                await proxy.call(body_of(streaming, max_tokens=100_000, messages=turns))
                asked = [document(p.requests[0])["max_tokens"] for p in (up, other, llm)]
                assert asked == [100_000, 150_000 - prompt - MARGIN, 131_072 - prompt - MARGIN]
                # What fits is asked for as it is.
                await proxy.call(body_of(streaming, max_tokens=60_000))
                assert document(other.requests[1])["max_tokens"] == 60_000
                assert document(llm.requests[1])["max_tokens"] == 60_000


async def test_more_output_than_a_provider_can_give_is_not_asked_for() -> None:
    async with (
        FakeProvider(refuse(529)) as up,
        FakeProvider(refuse(529)) as other,
        FakeProvider(message(completion({"content": "Hello"}))) as llm,
    ):
        providers = (
            primary(up, max_output_tokens=8192),
            fallback(other, max_output_tokens=8192),
            chat(llm, max_output_tokens=4096),
        )
        async with running_proxy(*providers) as proxy:
            thinking = {"type": "enabled", "budget_tokens": 31_999}
            body = body_of(stream=False, max_tokens=32_000, thinking=thinking)
            assert (await proxy.call(body)).status == 200
            assert up.requests[0].body == body  # whatever the operator has entered
            clamped = document(other.requests[0])
            assert clamped["max_tokens"] == 8192
            assert 1024 <= clamped["thinking"]["budget_tokens"] < 8192
            assert document(llm.requests[0])["max_tokens"] == 4096
            other.script(message())
            small = body_of(stream=False, max_tokens=100)
            await proxy.call(small)
            assert other.requests[0].body == small


async def test_a_plain_call_is_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(self: object) -> None:
        raise AssertionError("the body was decoded")

    monkeypatch.setattr("proxy.call.Call.document", decoded)
    limits: dict[str, Any] = {"context_window": 200_000, "max_output_tokens": 8192}
    async with FakeProvider(ok()) as up, FakeProvider(ok()) as other:
        async with running_proxy(
            primary(up, profile={"keep_thinking": False}), fallback(other, **limits)
        ) as proxy:
            for streaming in (True, False):
                assert (await proxy.call(with_history(streaming))).status == 200
            assert other.requests == []
            up.script(refuse(529))
        async with running_proxy(primary(up), fallback(other)) as proxy:
            body = with_history()
            assert await trail(proxy, body) == "anthropic-primary=529,openrouter=200"
            assert other.requests[0].body == body
            await until(lambda: not proxy.runtime.knowledge.table.has_changes, "nothing to learn")
