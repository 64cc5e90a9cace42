"""Which refusals a repair answers to, in every wrapping, and which it must not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from providers.routing import WireFormat
from proxy.rectifiers import REPAIRS
from proxy.rectifiers.wording import heard
from proxy.wire import ErrorReply
from tests.histories import refusal, target

ANTHROPIC, OPENAI = WireFormat.ANTHROPIC, WireFormat.OPENAI

ANTHROPIC_REFUSALS = [
    ("thinking_signature", "messages.1.content.0: Invalid `signature` in `thinking` block"),
    ("thinking_signature", "messages.3.content.0.thinking.signature: Field required"),
    ("thinking_signature", "messages.3.content.1.text.signature: Extra inputs are not permitted"),
    ("thinking_signature", "Thought signature is not valid"),
    (
        "thinking_signature",
        "messages.7.content.0.thinking: each thinking block must contain thinking",
    ),
    (
        "thinking_signature",
        "messages.5.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant "
        "message cannot be modified. These blocks must remain as they were in the original "
        "response.",
    ),
    (
        "thinking_start",
        "messages.69.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
        "`tool_use`. When `thinking` is enabled, a final `assistant` message must start with a "
        "thinking block",
    ),
    ("thinking_start", "a final `assistant` message must start with a thinking block"),
    (
        "clear_thinking_edit",
        "`clear_thinking_20251015` strategy requires `thinking` to be enabled or adaptive",
    ),
    (
        "thinking_budget",
        "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
    ),
    ("thinking_budget", "thinking.budget_tokens: Input should be greater than or equal to 1024"),
    ("thinking_budget", "`max_tokens` must be greater than `thinking.budget_tokens`."),
    (
        "thinking_type",
        '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" '
        'and "output_config.effort" to control thinking behavior.',
    ),
    ("thinking_type", "adaptive thinking is not supported on this model"),
    (
        "thinking_type",
        "thinking: Input tag 'adaptive' found using 'type' does not match any of the expected "
        "tags: 'enabled', 'disabled'",
    ),
    (
        "thinking_type",
        "thinking: Input tag 'adaptive' found using 'type' does not match expected tags: "
        "'enabled', 'disabled'",
    ),
    (
        "thinking_type",
        '"thinking.type.disabled" is not supported for this model. Use "thinking.type.adaptive" '
        'and "output_config.effort" to control thinking behavior.',
    ),
    (
        "thinking_type",
        "output_config.effort 'xhigh' is not supported when thinking is disabled on this model. "
        "Use effort 'high' or below, or enable thinking.",
    ),
    (
        "sampling",
        "`temperature` may only be set to 1 when thinking is enabled or in adaptive mode.",
    ),
    ("sampling", "`top_k` must be unset when thinking is enabled or in adaptive mode."),
    ("sampling", "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled"),
    ("sampling", "`temperature` is deprecated for this model."),
    (
        "sampling",
        "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
    ),
    ("thinking_tool_choice", "Thinking may not be enabled when tool_choice forces tool use."),
    (
        "orphan_tool_use",
        "messages.4: `tool_use` ids were found without `tool_result` blocks immediately after: "
        "toolu_1, toolu_2. Each `tool_use` block must have a corresponding `tool_result` block in "
        "the next message.",
    ),
    (
        "orphan_tool_use",
        "messages.2: Did not find 1 `tool_result` block(s) at the beginning of this message. "
        "Messages following `tool_use` blocks must begin with a matching number of `tool_result` "
        "blocks.",
    ),
    (
        "orphan_tool_result",
        "messages.2.content.0: unexpected `tool_use_id` found in `tool_result` blocks: toolu_9. "
        "Each `tool_result` block must have a corresponding `tool_use` block in the previous "
        "message.",
    ),
    (
        "orphan_tool_result",
        "messages.3.content.2: unexpected `tool_use_id` found in `advisor_tool_result` blocks: "
        "srvtoolu_1. Each `advisor_tool_result` block must have a corresponding `server_tool_use` "
        "block before it.",
    ),
    ("duplicate_tool_ids", "messages.3.content.2: `tool_use` ids must be unique"),
    ("duplicate_tool_ids", "tools: Tool names must be unique."),
    ("empty_text", "messages: text content blocks must be non-empty"),
    ("empty_text", "messages: text content blocks must contain non-whitespace text"),
    (
        "empty_text",
        "messages.0.content.2.text: cache_control cannot be set for empty text blocks",
    ),
    ("empty_text", "messages.2: user messages must have non-empty content"),
    (
        "empty_text",
        "messages.1: all messages must have non-empty content except for the optional final "
        "assistant message",
    ),
    ("empty_text", "system: text content blocks must be non-empty"),
    (
        "cache_marks",
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    (
        "thinking_required",
        "The `reasoning_content` in the thinking mode must be passed back to the API.",
    ),
    (
        "thinking_required",
        "The `content[].thinking` in the thinking mode must be passed back to the API.",
    ),
    (
        "beta_header",
        "Unexpected value(s) `effort-2025-11-24`, `x-2026` for the `anthropic-beta` header. "
        "Please consult our documentation at docs.anthropic.com or try again without the header.",
    ),
    ("beta_header", "invalid beta flag"),
    ("extra_inputs", "context_management: Extra inputs are not permitted"),
    ("extra_inputs", "output_config.effort: Extra inputs are not permitted"),
    ("extra_inputs", "tools.3.custom.input_examples: Extra inputs are not permitted"),
    ("extra_inputs", "tools.0.custom.defer_loading: Extra inputs are not permitted"),
    ("extra_inputs", "system.1.cache_control.ephemeral.scope: Extra inputs are not permitted"),
    ("extra_inputs", "thinking.display: Extra inputs are not permitted"),
    ("inline_system", "messages.1.role: Input should be 'user' or 'assistant'"),
    (
        "inline_system",
        'messages: Unexpected role "system". The Messages API accepts a top-level `system` '
        'parameter, not "system" as an input message role.',
    ),
    (
        "images_too_large",
        "messages.5.content.3.image.source.base64.data: At least one of the image dimensions "
        "exceed max allowed size for many-image requests: 2000 pixels",
    ),
    (
        "images_too_large",
        "messages.5.content.3.image.source.base64.data: At least one of the image dimensions "
        "exceed max allowed size: 8000 pixels",
    ),
    (
        "images_too_large",
        "messages.0.content.1.image.source.base64: image exceeds 5 MB maximum: 5316852 bytes > "
        "5242880 bytes",
    ),
    ("images_unsupported", "This model does not support image input"),
    ("images_unsupported", "Model only support text input"),
    ("images_unsupported", "cannot process media inputs"),
    ("images_unsupported", "attachments are not supported"),
    (
        "max_tokens_limit",
        "max_tokens: 128000 > 64000, which is the maximum allowed number of output tokens for "
        "claude-sonnet-4-5",
    ),
    (
        "prefill",
        "This model does not support assistant message prefill. The conversation must end with a "
        "user message.",
    ),
    (
        "user_id",
        "Invalid 'user_id': string does not match pattern. Expected a string that matches "
        "'^[a-zA-Z0-9_-]+$'.",
    ),
    ("user_id", "The unique ID of the user must be between 6 and 128 characters"),
    (
        "tool_id_characters",
        "messages.1.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
    ),
    (
        "tool_choice_without_tools",
        "tool_choice may only be specified while providing tools.",
    ),
    (
        "context_room",
        "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000, decrease "
        "input length or `max_tokens` and try again",
    ),
]

OPENAI_REFUSALS = [
    (
        "max_tokens_field",
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
        "'max_completion_tokens' instead.",
    ),
    ("max_tokens_field", "Unrecognized request argument supplied: max_completion_tokens"),
    (
        "token_limit",
        "max_tokens is too large: 32000. This model supports at most 16384 completion tokens, "
        "whereas you provided 32000.",
    ),
    (
        "token_limit",
        "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
    ),
    (
        "token_limit",
        "Invalid 'max_tokens': integer above maximum value, expected a value <= 32768, but got "
        "64000",
    ),
    (
        "token_limit",
        "<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 8192]",
    ),
    (
        "context_room",
        "This model's maximum context length is 98304 tokens. However, you requested 107837 "
        "tokens (90000 in the messages, 17837 in the completion).",
    ),
    (
        "unsupported_parameter",
        "Unsupported value: 'temperature' does not support 0.16 with this model. Only the default "
        "(1) value is supported.",
    ),
    ("unsupported_parameter", "Unknown parameter: 'top_k'"),
    ("unsupported_parameter", "Unrecognized request argument supplied: parallel_tool_calls"),
    ("unsupported_parameter", "property 'stream_options' is unsupported"),
    ("unsupported_parameter", "Unsupported parameter: 'stop' is not supported with this model."),
    ("unsupported_parameter", "reasoning_effort: Extra inputs are not permitted"),
    ("unsupported_parameter", "This response_format type is unavailable now"),
    (
        "effort_with_tools",
        "Function tools with reasoning_effort are not supported for gpt-5.6-terra in "
        "/v1/chat/completions. To use function tools, use /v1/responses or set reasoning_effort "
        "to 'none'.",
    ),
    (
        "effort_level",
        "Unsupported value: 'reasoning_effort' does not support 'xhigh' with this model. Supported "
        "values are: 'low', 'medium', and 'high'.",
    ),
    (
        "tool_adjacency",
        "An assistant message with 'tool_calls' must be followed by tool messages responding to "
        "each 'tool_call_id'. The following tool_call_ids did not have response messages: call_1",
    ),
    (
        "tool_adjacency",
        "Invalid parameter: messages with role 'tool' must be a response to a preceeding message "
        "with 'tool_calls'.",
    ),
    (
        "reasoning_history",
        "Missing `reasoning_content` field in the assistant message at message index 3.",
    ),
    (
        "reasoning_history",
        "The `reasoning_content` in the thinking mode must be passed back to the API.",
    ),
    (
        "reasoning_refused",
        "'messages.2' : for 'role:assistant' the following must be satisfied[('messages.2' : "
        "property 'reasoning_content' is unsupported)]",
    ),
    (
        "tool_id_style",
        "Tool call id was toolu_01AbC but must be a-z, A-Z, 0-9, with a length of 9.",
    ),
    (
        "tool_id_style",
        "Invalid 'messages[3].tool_calls[0].id': string too long. Expected a string with maximum "
        "length 40, but got a string with length 56 instead.",
    ),
    (
        "thought_signature",
        "Function call is missing a thought_signature in functionCall parts. This is required for "
        "tools to work correctly.",
    ),
    ("tool_schema", "Invalid schema for function 'Read': 'x' is not of type 'object'"),
    ("tool_schema", "only 'enum' and 'date-time' are supported for STRING type"),
    (
        "tool_schema",
        'Invalid JSON payload received. Unknown name "$schema" at '
        "'tools[0].function_declarations[0].parameters': Cannot find field.",
    ),
    ("tool_schema", "tools.3.function.parameters: expected an object"),
    (
        "too_many_tools",
        "Invalid 'tools': array too long. Expected an array with maximum length 128, but got an "
        "array with length 153 instead.",
    ),
    ("system_placement", "System message must be at the beginning."),
    (
        "system_placement",
        "Conversation roles must alternate user/assistant/user/assistant/...",
    ),
    (
        "trailing_assistant",
        "Expected last role User or Tool (or Assistant with prefix True) for serving but got "
        "assistant",
    ),
    (
        "trailing_assistant",
        "Cannot have 2 or more assistant messages at the end of the list.",
    ),
    (
        "images_unsupported",
        "Failed to deserialize the JSON body: messages[0]: unknown variant `image_url`, expected "
        "`text`",
    ),
    ("plain_content", "invalid message content"),
    ("plain_content", "messages[1].content must be a string"),
    (
        "plain_content",
        "Failed to deserialize the JSON body into the target type: messages[1]: invalid type: "
        "sequence, expected a string",
    ),
    ("null_content", "messages.2.content must not be null"),
    ("null_content", "Invalid value for 'content': expected a string, got null."),
    ("forced_tool_choice", "Thinking mode does not support this tool_choice"),
    ("forced_tool_choice", "tool_choice 'required' is not supported"),
    (
        "forced_tool_choice",
        "The tool_choice parameter does not support being set to required or object in thinking "
        "mode",
    ),
    ("tools_unsupported", "registry.ollama.ai/library/gemma:7b does not support tools"),
    (
        "tools_unsupported",
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
    ),
    (
        "user_field",
        "Invalid 'user': string too long. Expected a string with maximum length 64, but got a "
        "string with length 180 instead.",
    ),
]

NEAR_MISSES = [
    "invalid request",
    "invalid request: malformed JSON",
    "illegal request",
    "Bad request",
    "messages: at least one message is required",
    "Invalid signature in JWT",
    "The request signature we calculated does not match the signature you provided",
    "The thinking field is required",
    "model: claude-nope is not a known model",
    "max_tokens: Field required",
    "max_tokens: Input should be greater than or equal to 1",
    "prompt is too long: 210000 tokens > 200000 maximum",
    "temperature: Input should be less than or equal to 1",
    "This model's maximum context length is 128000 tokens. However, your messages resulted in "
    "130000 tokens.",
    "This model does not support image generation",
    "Could not process image",
    "messages.0.content.0.tool_use.input: Field required",
    "tools.0.custom.input_schema: Field required",
    "tool_choice.type: Field required",
    "This user is not supported in your region",
    "Your account does not support this model",
    "User location is not supported for the API use.",
    "Invalid 'top_logprobs': integer above maximum value. Expected a value <= 20, but got 64000",
    "Output blocked by content filtering policy",
    "anthropic-version: header is required",
    "cache_control: a ttl of 1h must come before 5m",
    "",
]


def names(error: ErrorReply, format: WireFormat) -> list[str]:
    return [repair.name for repair in REPAIRS if repair.matches(error, target(format))]


WRAPPINGS: dict[str, Callable[[str], Any]] = {
    "as it is": lambda m: {"type": "error", "error": {"type": "x", "message": m}},
    "JSON inside the message": lambda m: {
        "error": {"code": 400, "message": json.dumps({"type": "error", "error": {"message": m}})}
    },
    "under upstream_error": lambda m: {
        "error": {"type": "request_fail", "upstream_error": {"error": {"message": m}}}
    },
    "under metadata.raw, as JSON": lambda m: {
        "error": {
            "message": "Provider returned error",
            "metadata": {"raw": json.dumps({"error": {"message": m}})},
        }
    },
    "a string error": lambda m: {"error": m},
    "a list, as Google's": lambda m: [{"error": {"code": 400, "message": m}}],
    "JSON after a preface": lambda m: {
        "error": {"message": "API Error: 400 " + json.dumps({"error": {"message": m}})}
    },
    "no JSON at all": lambda m: f"Bad Request: {m}".encode(),
    "in capitals": lambda m: {"error": {"message": m.upper()}},
    "with other quotes": lambda m: {"error": {"message": m.replace("`", "'").replace('"', "`")}},
}


EVERY = [(ANTHROPIC, *row) for row in ANTHROPIC_REFUSALS] + [
    (OPENAI, *row) for row in OPENAI_REFUSALS
]


@pytest.mark.parametrize(("format", "name", "message"), EVERY)
def test_the_first_repair_that_answers_to_a_refusal_in_any_wrapping(
    format: WireFormat, name: str, message: str
) -> None:
    for wrapping, wrap in WRAPPINGS.items():
        found = names(refusal("Provider returned error", body=wrap(message)), format)
        if name == "effort_with_tools":  # giving up on tools comes first, once "none" was refused
            found.remove("tools_unsupported")
        assert found[:1] == [name], wrapping


@pytest.mark.parametrize(("name", "message"), ANTHROPIC_REFUSALS + OPENAI_REFUSALS)
def test_the_message_alone_is_enough(name: str, message: str) -> None:
    format = ANTHROPIC if (name, message) in ANTHROPIC_REFUSALS else OPENAI
    assert name in names(refusal(message, body=b""), format)


@pytest.mark.parametrize("format", [ANTHROPIC, OPENAI])
@pytest.mark.parametrize("message", NEAR_MISSES)
def test_a_near_miss_is_left_alone(message: str, format: WireFormat) -> None:
    assert names(refusal(message), format) == []


@pytest.mark.parametrize("status", [401, 402, 403, 404, 408, 409, 429, 502, 503, 504, 529])
def test_other_statuses_are_never_mended(status: int) -> None:
    for format, _, message in EVERY:
        assert names(refusal(message, status), format) == []


def test_a_500_is_mended_only_if_a_chat_template_failed() -> None:
    templates = {"system_placement", "trailing_assistant", "null_content"}
    for format, _, message in EVERY:
        assert set(names(refusal(message, 500), format)) <= templates


@pytest.mark.parametrize("status", [400, 413, 415, 422, 501])
def test_images_are_refused_with_several_statuses(status: int) -> None:
    assert "images_unsupported" in names(refusal("Model only support text input", status), OPENAI)


def test_fastapi_lists_what_it_does_not_accept() -> None:
    detail = [
        {
            "type": "extra_forbidden",
            "loc": ["body", "stream_options"],
            "msg": "Extra inputs are not permitted",
        }
    ]
    error = refusal("", 422, {"detail": detail})
    assert names(error, OPENAI) == ["unsupported_parameter"]
    assert names(error, ANTHROPIC) == ["extra_inputs"]


def test_fastapi_names_a_field_of_a_message() -> None:
    loc = ["body", "messages", 3, "assistant", "reasoning_content"]
    error = refusal("", 422, {"detail": [{"loc": loc, "msg": "Extra inputs are not permitted"}]})
    assert names(error, OPENAI) == ["reasoning_refused"]


def test_a_prompt_that_quotes_a_refusal_is_not_heard() -> None:
    quoted = "messages.1.content.0: Invalid `signature` in `thinking` block"
    detail = [{"loc": ["body", "x"], "msg": "Field required", "input": {"message": quoted}}]
    for body in ({"detail": detail}, {"error": {"message": "bad", "failed_generation": quoted}}):
        assert names(refusal("bad", body=body), ANTHROPIC) == []


QUOTING = [
    "1 validation error for Request\nx\n  Input should be a valid string "
    "[type=string_type, input_value={'text': '%s'}, input_type=dict]",
    "[{'type': 'missing', 'loc': ('body', 'x'), 'msg': 'Field required', 'input': {'text': '%s'}}]",
    "[{'type': 'missing', 'loc': ('body', 'x'), 'msg': 'Field required', 'input': {'text': '%s'",
]


@pytest.mark.parametrize("quoting", QUOTING)
@pytest.mark.parametrize(("format", "name", "message"), EVERY)
def test_nor_is_one_that_a_validator_quotes_in_its_message(
    format: WireFormat, name: str, message: str, quoting: str
) -> None:
    words = message.replace("'", "").replace("\n", " ").replace("\\", "")
    assert names(refusal(quoting % words, body=b""), format) == []


def test_a_list_as_python_writes_it_is_read() -> None:
    found = [
        {"loc": ("body", "stream_options"), "msg": "Extra inputs are not permitted", "input": "x"}
    ]
    assert names(refusal(repr(found), body=b""), OPENAI) == ["unsupported_parameter"]
    nested = "[" * 5000
    assert heard(refusal(nested, body=b"")) == nested[:4000]


def test_the_status_inside_a_200_counts() -> None:
    error = refusal("invalid beta flag")
    assert "beta_header" in names(replace(error, upstream_status=200), ANTHROPIC)


def test_a_translated_refusal_counts_by_the_status_it_came_with() -> None:
    message = "The `reasoning_content` in the thinking mode must be passed back to the API."
    error = refusal(message)
    assert names(replace(error, upstream_status=429), OPENAI) == []


def test_a_rate_limit_is_never_mended() -> None:
    error = replace(refusal("Request too large: tokens per min (TPM)", 413), rate_limited=True)
    assert names(error, OPENAI) == []
    assert names(replace(refusal("Model only support text input"), rate_limited=True), OPENAI) == []


def test_a_full_context_is_left_to_the_client_unless_less_output_helps() -> None:
    full = replace(refusal("prompt is too long", 413), context_overflow=True)
    assert names(full, OPENAI) == names(full, ANTHROPIC) == []
    message = "max_tokens is too large: 9. This model supports at most 4 completion tokens"
    assert names(replace(refusal(message), context_overflow=True), OPENAI) == ["token_limit"]


def test_repairs_of_one_format_do_not_answer_to_the_other() -> None:
    for repair in REPAIRS:
        for format in WireFormat:
            if format not in repair.formats:
                for _, message in ANTHROPIC_REFUSALS + OPENAI_REFUSALS:
                    assert not repair.matches(refusal(message), target(format))


def test_every_repair_is_named_once_and_explains_itself() -> None:
    assert len({repair.name for repair in REPAIRS}) == len(REPAIRS)
    for repair in REPAIRS:
        assert repair.name.isidentifier() and repair.name.islower()
        assert repair.label[0].isupper() and not repair.label.endswith(".")


def test_every_repair_has_a_refusal_in_these_tables() -> None:
    tried = {name for name, _ in ANTHROPIC_REFUSALS + OPENAI_REFUSALS}
    assert {repair.name for repair in REPAIRS} - tried == {"request_too_large"}


def test_a_huge_or_broken_body_is_read_in_part() -> None:
    assert heard(refusal("m", body=b"\xff\xfe" * 200_000))
    deep: Any = "end"
    for _ in range(200):
        deep = {"error": deep}
    assert heard(refusal("m", body=deep)) == "m"


def test_one_validation_error_among_several_is_heard() -> None:
    # Of llama-cpp-python, for a message without content.
    said = (
        "2 validation errors:\n  {'type': 'literal_error', 'loc': ('body', 'messages', 1, "
        "'ChatCompletionRequestUserMessage', 'role'), 'msg': \"Input should be 'user'\", 'input': "
        "'assistant', 'ctx': {'expected': \"'user'\"}}\n  {'type': 'string_type', 'loc': ('body', "
        "'messages', 1, 'ChatCompletionRequestAssistantMessage', 'content'), 'msg': 'Input should "
        "be a valid string', 'input': None}"
    )
    assert "null_content" in names(refusal(said, status=500), WireFormat.OPENAI)
