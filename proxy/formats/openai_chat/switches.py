"""What the switches of a profile may be set to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Levels of reasoning effort, weakest first. `none` is only ever sent to switch reasoning off."""

# Each check says what a value has to be, None if it is.
_Check = Callable[[Any], str | None]


def one_of(*choices: str) -> _Check:
    wanted = "must be one of " + ", ".join(choices)
    return lambda value: None if isinstance(value, str) and value in choices else wanted


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _integer(least: int) -> _Check:
    def check(value: Any) -> str | None:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return None if whole and value >= least else f"must be a whole number, at least {least}"

    return check


def _nullable(check: _Check) -> _Check:
    def nullable(value: Any) -> str | None:
        problem = None if value is None else check(value)
        return f"{problem}, or null" if problem else None

    return nullable


def _strings(value: Any) -> str | None:
    listed = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
    return None if listed else "must be a list of strings"


def _efforts(value: Any) -> str | None:
    if not _strings(value) and value and all(level in EFFORTS for level in value):
        return None
    return "must be a list of some of " + ", ".join(EFFORTS)


def _effort_map(value: Any) -> str | None:
    if isinstance(value, Mapping) and all(
        key in EFFORTS and level in EFFORTS for key, level in value.items()
    ):
        return None
    return "must map efforts to efforts, out of " + ", ".join(EFFORTS)


def _string_map(value: Any) -> str | None:
    mapped = isinstance(value, Mapping) and all(isinstance(item, str) for item in value.values())
    return None if mapped else "must be an object with strings as values"


def _object(value: Any) -> str | None:
    return None if isinstance(value, Mapping) else "must be an object"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else "must be a text"


CHECKS: Mapping[str, _Check] = {
    "max_tokens_field": one_of("max_tokens", "max_completion_tokens"),
    "default_max_tokens": _integer(1),
    "max_output_tokens": _nullable(_integer(1)),
    "context_window": _nullable(_integer(1)),
    "reasoning_param": one_of(
        "none",
        "reasoning_effort",
        "openrouter",
        "deepseek",
        "enable_thinking",
        "chat_template_kwargs",
        "thinking_type",
    ),
    "effort_levels": _efforts,
    "effort_map": _effort_map,
    "reasoning_effort_override": _nullable(one_of(*EFFORTS)),
    "reasoning_history": one_of("none", "reasoning_content", "reasoning", "reasoning_details"),
    "reasoning_accept": one_of("own", "any"),
    "reasoning_filler": _nullable(_boolean),
    "thought_signature_sentinel": _boolean,
    "think_tags": one_of("auto", "off"),
    "system_role": one_of("system", "developer"),
    "inline_system": one_of("fold_user", "preserve"),
    "images": _boolean,
    "tool_images": one_of("user_message", "inline"),
    "documents": one_of("placeholder", "file_part"),
    "content_parts": _boolean,
    "cache_control": one_of("drop", "keep"),
    "supports_top_k": _boolean,
    "sampling": one_of("pass", "drop"),
    "stop_max": _integer(0),
    "stream_options": _boolean,
    "structured_output": one_of("json_schema", "json_object", "none"),
    "strict_tools": _boolean,
    "schema_dialect": one_of("standard", "gemini"),
    "supports_tools": _boolean,
    "force_tool_choice_auto": _boolean,
    "tool_id_style": one_of("asis40", "alnum9", "hash"),
    "tool_name_max": _integer(16),
    "max_tools": _integer(1),
    "drop_tools": _strings,
    "assistant_null_content": _boolean,
    "empty_content": _text,
    "message_alternation": _boolean,
    "prefill": one_of("passthrough", "append_user", "mistral_prefix"),
    "user_field": one_of("none", "hash"),
    "prompt_cache_key": _boolean,
    "buffer_tool_args": _boolean,
    "extra_body": _object,
    "drop_params": _strings,
    "extra_headers": _string_map,
}
