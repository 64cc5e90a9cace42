"""Thinking that an upstream refuses, and the settings that go with it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.histories import (
    assistant,
    call,
    mend,
    mended,
    redacted,
    request,
    result,
    target,
    text,
    thinking,
    tool,
    user,
)

SIGNATURE = "messages.1.content.0: Invalid `signature` in `thinking` block"


def test_k01_all_thinking_goes_not_only_what_was_named() -> None:
    before = request(
        user(text()),
        assistant(thinking(), text("a")),
        user(text()),
        assistant(redacted(), thinking(), text("b")),
        user(text()),
    )
    after = mended(before, SIGNATURE)
    assert [m["content"] for m in after["messages"] if m["role"] == "assistant"] == [
        [text("a")],
        [text("b")],
    ]


def test_k05_a_message_of_thinking_alone_is_dropped() -> None:
    before = request(user(text("a")), assistant(thinking()), user(text("b")))
    assert mended(before, SIGNATURE)["messages"] == [user(text("a")), user(text("b"))]


def test_a_stray_signature_goes_but_a_tools_argument_of_that_name_stays() -> None:
    signed = call("t1", "Sign", signature="mine")
    before = request(
        user(text()),
        assistant({**text("a"), "signature": "x"}, {**signed, "signature": "y"}),
        user(result("t1")),
    )
    after = mended(before, "messages.1.content.0.text.signature: Extra inputs are not permitted")
    assert after["messages"][1]["content"] == [text("a"), signed]


def test_thinking_is_switched_off_if_the_last_turn_loses_its_thinking() -> None:
    """Decided after the removal: a history that began with thinking would fail a second time."""
    before = request(
        user(text()),
        assistant(thinking(), call("t1")),
        user(result("t1")),
        thinking={"type": "enabled", "budget_tokens": 2000},
        context_management={"edits": [{"type": "clear_thinking_20251015"}, {"type": "other"}]},
    )
    after = mended(before, SIGNATURE)
    assert "thinking" not in after
    assert after["context_management"] == {"edits": [{"type": "other"}]}


def test_thinking_stays_on_if_the_last_word_is_the_users_or_thinking_is_adaptive() -> None:
    enabled = {"type": "enabled", "budget_tokens": 2000}
    asked = request(user(text()), assistant(thinking(), text()), user(text()), thinking=enabled)
    assert mended(asked, SIGNATURE)["thinking"] == enabled
    looping = request(
        user(text()),
        assistant(thinking(), call("t1")),
        user(result("t1")),
        thinking={"type": "adaptive"},
    )
    assert mended(looping, SIGNATURE)["thinking"] == {"type": "adaptive"}


def test_nothing_to_strip_means_no_second_try() -> None:
    assert mend(request(user(text()), assistant(text())), SIGNATURE) is None


def test_expected_thinking_drops_the_setting_and_invents_nothing() -> None:
    message = "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found x"
    before = request(
        user(text()),
        assistant(call("t1")),
        user(result("t1")),
        thinking={"type": "enabled", "budget_tokens": 2000},
        context_management={"edits": [{"type": "clear_thinking_20251015"}]},
    )
    after = mended(before, message)
    assert after == {k: v for k, v in before.items() if k not in ("thinking", "context_management")}
    assert mend({**before, "thinking": {"type": "adaptive"}}, message) is None


def test_the_edit_that_clears_thinking_goes_alone() -> None:
    message = "`clear_thinking_20251015` strategy requires `thinking` to be enabled or adaptive"
    edits = [{"type": "clear_thinking_20251015"}, {"type": "clear_tool_uses_20250919"}]
    before = request(user(text()), context_management={"edits": edits})
    assert mended(before, message)["context_management"] == {"edits": edits[1:]}
    only = request(user(text()), context_management={"edits": edits[:1]})
    assert "context_management" not in mended(only, message)


TOO_SMALL = "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
TOO_LARGE = "`max_tokens` must be greater than `thinking.budget_tokens`"


@pytest.mark.parametrize(
    ("message", "budget", "max_tokens", "most", "expected"),
    [
        (TOO_SMALL, 512, 4096, None, (1024, 4096)),
        (TOO_LARGE, 10_000, 8000, None, (7999, 8000)),
        (TOO_LARGE, 10_000, 800, None, (10_000, 11_024)),
        (TOO_LARGE, 1024, 1024, None, (1024, 2048)),
        (TOO_LARGE, 10_000, 800, 4096, (4095, 4096)),
        (TOO_LARGE, 2000, 800, 1000, None),
        (TOO_SMALL, 512, 600, None, (1024, 2048)),
    ],
)
def test_k06_budget_and_output_limit_are_fitted_together(
    message: str, budget: int, max_tokens: int, most: int | None, expected: tuple[int, int] | None
) -> None:
    before = request(user(text()), thinking={"type": "enabled", "budget_tokens": budget})
    before["max_tokens"] = max_tokens
    after = mended(before, message, target(max_output_tokens=most) if most else None)
    if expected is None:
        assert "thinking" not in after and after["max_tokens"] == max_tokens
    else:
        assert (after["thinking"]["budget_tokens"], after["max_tokens"]) == expected


@pytest.mark.parametrize("thinking", [None, {"type": "adaptive"}, {"type": "disabled"}])
def test_k06_a_budget_is_never_created(thinking: Any) -> None:
    before = request(user(text()), **({"thinking": thinking} if thinking else {}))
    assert mend(before, TOO_LARGE) is None


@pytest.mark.parametrize(
    ("budget", "config", "effort"),
    [
        (2000, None, "low"),
        (8000, None, "medium"),
        (31_999, None, "high"),
        (2000, {"effort": "max", "format": "f"}, "max"),
    ],
)
def test_k14_enabled_becomes_adaptive_with_an_effort(budget: int, config: Any, effort: str) -> None:
    message = (
        '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive"'
    )
    before = request(
        user(text()), thinking={"type": "enabled", "budget_tokens": budget, "display": "omitted"}
    )
    if config:
        before["output_config"] = config
    after = mend(before, message)
    assert after.document["thinking"] == {"type": "adaptive", "display": "omitted"}
    assert after.document["output_config"] == {**(config or {}), "effort": effort}
    assert after.profile == {"thinking_form": "adaptive"}


@pytest.mark.parametrize(
    ("effort", "max_tokens", "expected"),
    [("low", 32_000, 2048), ("xhigh", 32_000, 16_384), ("high", 4000, 3999), ("high", 1024, None)],
)
def test_k14_adaptive_becomes_enabled_with_a_budget(
    effort: str, max_tokens: int, expected: int | None
) -> None:
    message = (
        "thinking: Input tag 'adaptive' found using 'type' does not match expected tags: 'enabled'"
    )
    before = request(user(text()), thinking={"type": "adaptive"}, output_config={"effort": effort})
    before["max_tokens"] = max_tokens
    after = mended(before, message)
    if expected is None:
        assert "thinking" not in after
    else:
        assert after["thinking"] == {"type": "enabled", "budget_tokens": expected}


def test_adaptive_thinking_is_dropped_where_enabled_could_not_go_on() -> None:
    before = request(
        user(text()), assistant(call("t")), user(result("t")), thinking={"type": "adaptive"}
    )
    assert "thinking" not in mended(before, "adaptive thinking is not supported on this model")


def test_disabled_thinking_is_left_out_or_the_effort_lowered() -> None:
    before = request(user(text()), thinking={"type": "disabled"}, output_config={"effort": "max"})
    after = mended(before, '"thinking.type.disabled" is not supported for this model.')
    assert "thinking" not in after and after["output_config"] == {"effort": "max"}
    after = mended(
        before,
        "output_config.effort 'max' is not supported when thinking is disabled on this model.",
    )
    assert after["thinking"] == {"type": "disabled"} and after["output_config"] == {
        "effort": "high"
    }


def test_k15_sampling_parameters_go_together() -> None:
    before = request(
        user(text()), temperature=0.2, top_p=0.5, top_k=3, thinking={"type": "adaptive"}
    )
    after = mended(before, "`temperature` may only be set to 1 when thinking is enabled")
    assert not {"temperature", "top_p", "top_k"} & set(after) and after["thinking"]


def test_k15_a_forced_tool_becomes_a_free_choice() -> None:
    choice = {"type": "tool", "name": "Read", "disable_parallel_tool_use": True}
    before = request(
        user(text()), tools=[tool()], tool_choice=choice, thinking={"type": "adaptive"}
    )
    after = mended(before, "Thinking may not be enabled when tool_choice forces tool use.")
    assert after["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert after["thinking"] == {"type": "adaptive"}


def test_thinking_required_switches_it_off_and_forbids_stripping() -> None:
    before = request(user(text()), assistant(thinking(), text()), user(text()))
    after = mend(
        before, "The `content[].thinking` in the thinking mode must be passed back to the API."
    )
    assert after.document["thinking"] == {"type": "disabled"}
    assert after.document["messages"] == before["messages"]
    assert mend(after, SIGNATURE) is None
    assert mend(before, SIGNATURE, target(keep_thinking=True)) is None
