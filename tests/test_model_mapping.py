"""Which model a provider is asked for, and what that changes in the request."""

from __future__ import annotations

import pytest

from providers.routing import MAX_KNOWN_MODELS, ProviderSpec, Snapshot, is_glob, order_globs
from tests.proxy import WITH_DATABASE, body_of, fallback, primary, running_proxy
from tests.upstreams import FakeProvider, message, ok, refuse


def provider(mappings: dict[str, str]) -> ProviderSpec:
    return ProviderSpec(
        id=1,
        name="p",
        base_url="http://p",
        exact_mappings={s: t for s, t in mappings.items() if not is_glob(s)},
        glob_mappings=order_globs(mappings),
    )


TABLE = {
    "claude-opus-4-1": "exact",
    "claude-opus-*": "opus",
    "claude-*": "claude",
    "claude-?-x": "one letter",
    "*haiku*": "haiku",
    "*-20??-*": "dated",
    "claude-sonnet-5[1m]": "long sonnet",
    "claude-sonnet-5": "sonnet",
    "claude-fable-*[1m]": "long fable",
    "claude-fable-*": "fable",
}


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("claude-opus-4-1", "exact"),
        ("claude-opus-4-2", "opus"),
        ("claude-opus-", "opus"),
        ("claude-opus", "claude"),
        ("claude-3-x", "one letter"),
        ("claude-33-x", "claude"),
        ("claude-3-5-haiku-latest", "claude"),  # the longest pattern, not the first that fits
        ("my-haiku-x", "haiku"),
        ("gpt-2024-x", "dated"),
        ("Claude-opus-4-1", "Claude-opus-4-1"),
        ("gpt-5", "gpt-5"),
        ("claude-opus-4-1[1m]", "exact"),
        ("claude-opus-4-2[1m]", "opus"),
        ("gpt-5[1m]", "gpt-5[1m]"),
        ("claude-sonnet-5[1m]", "long sonnet"),
        ("claude-sonnet-5", "sonnet"),
        ("claude-fable-2[1m]", "long fable"),
        ("claude-fable-2", "fable"),
        ("claude-fable-1", "fable"),  # [1m] is a suffix, not a class of characters
        ("claude-fable-m", "fable"),
    ],
)
def test_an_exact_name_wins_over_the_longest_pattern_over_the_name_itself(
    asked: str, sent: str
) -> None:
    assert provider(TABLE).map_model(asked) == sent


def test_a_provider_without_mappings_is_asked_for_the_same_model() -> None:
    assert provider({}).map_model("claude-x[1m]") == "claude-x[1m]"


def test_patterns_of_the_same_length_are_tried_by_name() -> None:
    assert order_globs({"*b": "2", "a*": "1", "long*": "3", "exact": "4"}) == (
        ("long*", "3"),
        ("*b", "2"),
        ("a*", "1"),
    )


@WITH_DATABASE
async def test_each_provider_is_asked_for_its_own_model_and_no_other_byte_changes() -> None:
    body = (
        b'{"x":{"model":"claude-test"},  "stream":true,"n":123456789012345678901234567890,'
        b'"model" : "claude-\\u0074est" ,"t":"\\u00e9\\ud83d"}\n'
    )
    async with FakeProvider(refuse(429)) as up, FakeProvider(ok()) as other:
        mappings = {"openrouter": {"claude-*": "anthropic/claude"}}
        async with running_proxy(primary(up), fallback(other), mappings=mappings) as proxy:
            reply = await proxy.call(body)
            assert reply.status == 200
            assert up.requests[0].body == body
            mapped = body.replace(b'"claude-\\u0074est"', b'"anthropic/claude"')
            assert other.requests[0].body == mapped
            (call,) = await proxy.log(1)
            assert (call.model, call.model_sent) == ("claude-test", "anthropic/claude")


@WITH_DATABASE
async def test_a_token_count_asks_for_the_mapped_model_too() -> None:
    async with FakeProvider(message(b'{"input_tokens":5}')) as up:
        mappings = {"anthropic-primary": {"claude-test": "m2"}}
        async with running_proxy(primary(up), mappings=mappings) as proxy:
            body = body_of(stream=False)
            await proxy.call(body, target="/v1/messages/count_tokens")
            assert up.requests[0].body == body.replace(b"claude-test", b"m2")


def test_a_snapshot_remembers_neither_long_names_nor_any_number_of_them() -> None:
    snapshot = Snapshot(providers=(provider({"*": "m"}),))
    for number in range(MAX_KNOWN_MODELS + 10):
        targets = snapshot.targets_for(f"model-{number}", with_client_credentials=True)
        assert [target.model for target in targets] == ["m"]
    assert len(snapshot._known_targets) == MAX_KNOWN_MODELS
    fresh = Snapshot(providers=(provider({"*": "m"}),))
    assert fresh.targets_for("x" * 1_000_000, with_client_credentials=True)[0].model == "m"
    assert not fresh._known_targets
