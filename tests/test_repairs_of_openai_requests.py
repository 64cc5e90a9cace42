"""Which switches each repair of an OpenAI-format request turns: the conversion does the rest."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from providers.routing import WireFormat
from proxy.rectifiers import REPAIRS, Draft, plan
from tests.histories import (
    assert_paired,
    assistant,
    call,
    image,
    refusal,
    request,
    result,
    target,
    text,
    tool,
    user,
)

FORCED = {"type": "tool", "name": "Read"}
EVERYTHING = request(
    user(image(), text()),
    assistant(call("t")),
    user(result("t")),
    tools=[tool("Read"), tool("Bash"), tool("Edit")],
    tool_choice=FORCED,
    max_tokens=64_000,
)


def mend(
    before: Draft | dict[str, Any], message: str, status: int = 400, **profile: Any
) -> Draft | None:
    before = before if isinstance(before, Draft) else Draft(before)
    kept = copy.deepcopy(before)
    step = plan().next(refusal(message, status), before, target(WireFormat.OPENAI, **profile))
    assert before == kept, "a repair changed its input"
    return step[1] if step else None


EFFORTS = "Supported values are: 'low', 'medium', and 'high'."

TABLE: list[tuple[str, dict[str, Any], dict[str, Any] | None]] = [
    # what was said, the provider's own profile, the switches that are turned (None: no repair)
    (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
        "'max_completion_tokens' instead.",
        {},
        {"max_tokens_field": "max_completion_tokens"},
    ),
    ("Unknown parameter: 'max_completion_tokens'", {}, {"max_tokens_field": "max_tokens"}),
    (
        "Unknown parameter: 'max_completion_tokens'",
        {"max_tokens_field": "max_completion_tokens"},
        {"max_tokens_field": "max_tokens"},
    ),
    ("Unknown parameter: 'max_completion_tokens'", {"max_tokens_field": "max_tokens"}, None),
    (
        "max_tokens is too large: 64000. This model supports at most 16,384 completion tokens",
        {},
        {"max_output_tokens": 16_384},
    ),
    (
        "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
        {"max_output_tokens": 10_000},
        {"max_output_tokens": 8192},
    ),
    (
        "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
        {"max_output_tokens": 8192},
        None,
    ),
    (
        "Invalid 'max_tokens': integer above maximum value. Expected a value <= 32768, but got "
        "64000 instead.",
        {},
        {"max_output_tokens": 32_768},
    ),
    ("Range of max_tokens should be [1, 99999]", {}, None),
    (
        "Unsupported value: 'temperature' does not support 0.16 with this model. Only the default "
        "(1) value is supported.",
        {},
        {"drop_params": ["temperature"]},
    ),
    ("Unknown parameter: 'top_k'", {"drop_params": ["seed"]}, {"drop_params": ["seed", "top_k"]}),
    ("Unknown parameter: 'top_k'", {"drop_params": ["top_k"]}, None),
    (
        "Unrecognized request arguments supplied: top_k, parallel_tool_calls",
        {},
        {"drop_params": ["top_k", "parallel_tool_calls"]},
    ),
    ("property 'user' is unsupported", {}, {"drop_params": ["user"]}),
    ("stream_options: Extra inputs are not permitted", {}, {"drop_params": ["stream_options"]}),
    (
        "This response_format type is unavailable now",
        {},
        {"structured_output": "json_object"},
    ),
    (
        "This response_format type is unavailable now",
        {"structured_output": "json_object"},
        {"structured_output": "none"},
    ),
    ("This response_format type is unavailable now", {"structured_output": "none"}, None),
    (
        "tools.0.function.strict: Extra inputs are not permitted",
        {"strict_tools": True},
        {"strict_tools": False},
    ),
    (
        "messages.0.content.0.cache_control: Extra inputs are not permitted",
        {"cache_control": "keep"},
        {"cache_control": "drop"},
    ),
    (
        "Function tools with reasoning_effort are not supported for gpt-5.6-terra in "
        "/v1/chat/completions. To use function tools, use /v1/responses or set reasoning_effort "
        "to 'none'.",
        {},
        {"reasoning_effort_override": "none"},
    ),
    (
        f"Unsupported value: 'reasoning_effort' does not support 'xhigh' with this model. "
        f"{EFFORTS}",
        {},
        {"effort_levels": ["low", "medium", "high"]},
    ),
    (
        "reasoning_effort must be one of [low, medium, high]",
        {"effort_levels": ["high"]},
        {"effort_levels": ["low", "medium", "high"]},
    ),
    (
        "reasoning_effort must be one of [low, medium, high]",
        {"reasoning_effort_override": "none"},
        None,
    ),
    (
        "Missing `reasoning_content` field in the assistant message at message index 3.",
        {},
        {"reasoning_history": "reasoning_content", "reasoning_filler": True},
    ),
    (
        "The `reasoning_content` in the thinking mode must be passed back to the API.",
        {"reasoning_history": "reasoning_content"},
        {"reasoning_history": "reasoning_content", "reasoning_filler": True},
    ),
    (
        "'messages.2' : for 'role:assistant' the following must be satisfied[('messages.2' : "
        "property 'reasoning_content' is unsupported)]",
        {"reasoning_history": "reasoning_content"},
        {"reasoning_history": "none", "reasoning_filler": False},
    ),
    (
        "Tool call id was X but must be a-z, A-Z, 0-9, with a length of 9.",
        {},
        {"tool_id_style": "alnum9"},
    ),
    (
        "Invalid 'messages[1].tool_calls[0].id': string too long. Expected a string with maximum "
        "length 40, but got a string with length 56 instead.",
        {"tool_id_style": "verbatim"},
        {"tool_id_style": "asis40"},
    ),
    (
        "Invalid 'messages[1].tool_calls[0].id': string too long. Expected a string with maximum "
        "length 20, but got a string with length 30 instead.",
        {},
        {"tool_id_style": "alnum9"},
    ),
    (
        "Function call is missing a thought_signature in functionCall parts.",
        {},
        {"thought_signature_sentinel": True},
    ),
    (
        "Invalid schema for function 'Read': bad",
        {},
        {"schema_dialect": "gemini", "strict_tools": False},
    ),
    (
        "Invalid schema for function 'Read': bad",
        {"schema_dialect": "gemini"},
        {"drop_tools": ["Read"]},
    ),
    ("tools.1.function.parameters: bad", {"schema_dialect": "gemini"}, {"drop_tools": ["Bash"]}),
    ("Invalid schema for function 'Nope': bad", {"schema_dialect": "gemini"}, None),
    (
        "Invalid 'tools': array too long. Expected an array with maximum length 2, but got an "
        "array with length 3 instead.",
        {},
        {"max_tools": 2},
    ),
    (
        "Invalid 'tools': array too long. Expected an array with maximum length 128",
        {},
        None,
    ),
    ("System message must be at the beginning.", {}, {"inline_system": "fold_user"}),
    (
        "System message must be at the beginning.",
        {"inline_system": "fold_user"},
        {"inline_system": "fold_user", "message_alternation": True},
    ),
    (
        "Conversation roles must alternate user/assistant/user/assistant/...",
        {},
        {"inline_system": "fold_user", "message_alternation": True},
    ),
    (
        "Expected last role User or Tool (or Assistant with prefix True) for serving but got "
        "assistant",
        {},
        {"prefill": "mistral_prefix"},
    ),
    (
        "Cannot have 2 or more assistant messages at the end of the list.",
        {},
        {"prefill": "append_user"},
    ),
    ("Model only support text input", {}, {"images": False}),
    ("Model only support text input", {"images": False}, None),
    (
        "messages[1].content must be a string",
        {},
        {"images": False, "documents": "placeholder", "cache_control": "drop"},
    ),
    ("invalid message content", {"tool_images": "inline"}, {"tool_images": "user_message"}),
    ("messages.2.content must not be null", {}, {"assistant_null_content": False}),
    (
        "messages.2.content must not be empty",
        {},
        {"assistant_null_content": False, "empty_content": "(no content)"},
    ),
    ("tool_choice 'required' is not supported", {}, {"force_tool_choice_auto": True}),
    (
        "Invalid 'user': string too long. Expected a string with maximum length 64",
        {},
        {"user_field": "none", "drop_params": ["user"]},
    ),
]


@pytest.mark.parametrize(("message", "profile", "turned"), TABLE)
def test_a_refusal_turns_switches_and_leaves_the_document(
    message: str, profile: dict[str, Any], turned: dict[str, Any] | None
) -> None:
    after = mend(EVERYTHING, message, **profile)
    assert (after and after.profile) == turned
    assert after is None or after.document is EVERYTHING


@pytest.mark.parametrize(("message", "profile", "turned"), TABLE)
def test_what_is_turned_is_remembered_unless_it_is_about_one_tool(
    message: str, profile: dict[str, Any], turned: dict[str, Any] | None
) -> None:
    repairs = plan()
    repairs.next(refusal(message), Draft(EVERYTHING), target(WireFormat.OPENAI, **profile))
    assert repairs.learned() == {k: v for k, v in (turned or {}).items() if k != "drop_tools"}


def test_k22_a_template_that_fails_is_a_500() -> None:
    after = mend(
        EVERYTHING, "Error rendering prompt: System message must be at the beginning.", 500
    )
    assert after and after.profile == {"inline_system": "fold_user"}


def test_a_second_look_at_a_schema_drops_the_tool() -> None:
    repairs, at = plan(), target(WireFormat.OPENAI)
    error = refusal("Invalid schema for function 'Bash': bad")
    _, first = repairs.next(error, Draft(EVERYTHING), at) or pytest.fail()
    _, second = repairs.next(error, first, at) or pytest.fail()
    assert second.profile == {
        "schema_dialect": "gemini",
        "strict_tools": False,
        "drop_tools": ["Bash"],
    }
    assert repairs.next(error, second, at) is None


def test_an_index_says_nothing_where_tools_are_deferred() -> None:
    deferred = {**EVERYTHING, "tools": [tool("A", defer_loading=True), tool("B")]}
    assert mend(deferred, "tools.0.function.parameters: bad", schema_dialect="gemini") is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "This model's maximum context length is 128000 tokens. However, you requested 160000 "
            "tokens (96000 in the messages, 64000 in the completion).",
            128_000 - 96_000 - 64,
        ),
        (
            "This endpoint's maximum context length is 131072 tokens. However, you requested about "
            "150000 tokens (84000 of text input, 2000 of tool input, 64000 in the output).",
            131_072 - 86_000 - 64,
        ),
        (
            "'max_tokens' or 'max_completion_tokens' is too large: 64000. This model's maximum "
            "context length is 65536 tokens and your request has 20000 input tokens (64000 > 65536 "
            "- 20000).",
            65_536 - 20_000 - 64,
        ),
    ],
)
def test_output_shrinks_to_the_room_that_is_left_and_nothing_is_learned(
    message: str, expected: int
) -> None:
    repairs = plan()
    error = replace(refusal(message), context_overflow=True)
    _, after = repairs.next(error, Draft(EVERYTHING), target(WireFormat.OPENAI)) or pytest.fail()
    assert after.document["max_tokens"] == expected
    assert repairs.learned() == {}


@pytest.mark.parametrize("window", [90_000, 96_500, 97_000])
def test_a_prompt_that_leaves_no_room_is_not_mended(window: int) -> None:
    message = (
        f"This model's maximum context length is {window} tokens. However, you requested 160000 "
        "tokens (96000 in the messages, 64000 in the completion)."
    )
    assert mend(EVERYTHING, message) is None


def test_results_are_put_behind_their_calls() -> None:
    before = request(user(text()), assistant(call("t1"), call("t2")), user(text("x"), result("t2")))
    after = mend(
        before,
        "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.",
    )
    assert after
    assert_paired(dict(after.document))


def test_a_choice_that_thinking_excludes_is_freed_for_this_request_only() -> None:
    after = mend(EVERYTHING, "Thinking mode does not support this tool_choice")
    assert after and after.document["tool_choice"] == {"type": "auto"} and not after.profile
    assert (
        mend({**EVERYTHING, "tool_choice": {"type": "auto"}}, "does not support this tool_choice")
        is None
    )


def test_k18_none_is_forced_once_and_then_the_provider_has_no_tools() -> None:
    repairs, at = plan(), target(WireFormat.OPENAI)
    error = refusal(
        "Function tools with reasoning_effort are not supported for gpt-5.6-terra in x."
    )
    _, after = repairs.next(error, Draft(EVERYTHING), at) or pytest.fail()
    assert after.profile["reasoning_effort_override"] == "none" and after.document["tools"]
    refused = refusal(f"Unsupported value: 'reasoning_effort' does not support 'none'. {EFFORTS}")
    assert repairs.next(refused, after, at) is None
    assert repairs.facts == {"supports_tools": False}


def test_an_effort_is_not_about_tools_where_there_are_none() -> None:
    message = "Function tools with reasoning_effort are not supported for gpt-5.6-terra in x."
    assert mend(request(user(text())), message) is None


def test_a_model_without_tools_is_a_fact_and_not_a_repair() -> None:
    repairs = plan()
    error = refusal("registry.ollama.ai/library/gemma:7b does not support tools")
    assert repairs.next(error, Draft(EVERYTHING), target(WireFormat.OPENAI)) is None
    assert (
        repairs.facts == {"supports_tools": False} and repairs.ran == [] and repairs.learned() == {}
    )


def test_reasoning_is_not_refused_and_asked_for_in_one_attempt() -> None:
    repairs, at = plan(), target(WireFormat.OPENAI)
    wanted = refusal("The `reasoning_content` in the thinking mode must be passed back to the API.")
    refused = refusal("property 'reasoning_content' is unsupported")
    _, after = repairs.next(wanted, Draft(EVERYTHING), at) or pytest.fail()
    assert repairs.next(refused, after, at) is None


def test_three_parameters_are_dropped_one_after_the_other_but_not_four() -> None:
    repairs, at, now = plan(), target(WireFormat.OPENAI), Draft(EVERYTHING)
    for name in ("temperature", "top_p", "top_k"):
        _, now = repairs.next(refusal(f"Unknown parameter: '{name}'"), now, at) or pytest.fail()
    assert now.profile == {"drop_params": ["temperature", "top_p", "top_k"]}
    assert repairs.next(refusal("Unknown parameter: 'seed'"), now, at) is None


def test_no_repair_of_openai_requests_runs_with_a_clients_credentials_unasked() -> None:
    at = target(WireFormat.OPENAI, primary=True)
    for message, _, _ in TABLE:
        assert plan().next(refusal(message), Draft(EVERYTHING), at) is None
    assert any(WireFormat.OPENAI in repair.formats for repair in REPAIRS)
