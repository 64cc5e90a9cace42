"""Parameters of OpenAI-format requests: what a model does not take is switched off."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from providers.routing import Target
from proxy.rectifiers.base import (
    OPENAI,
    VALIDATION,
    Draft,
    Rule,
    added,
    override,
    switch,
    wording,
)
from proxy.rectifiers.parameters import number
from proxy.rectifiers.thinking_settings import whole

_TOKENS_FIELD = re.compile(
    r"max_tokens is not supported with this model[^\n]*use (?P<new>max_completion_tokens)"
    r"|(?:unsupported parameter|unknown (?:parameter|name)|unrecognized request argument supplied)"
    r":? (?P<refused>max_completion_tokens|max_tokens)\b"
    r"|property (?P<property>max_completion_tokens) is unsupported"
    r"|\b(?P<extra>max_completion_tokens): extra inputs are not permitted",
    re.IGNORECASE,
)
_OTHER_FIELD = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}

_TOKEN_LIMIT = re.compile(
    r"max_(?:completion_)?tokens[^\n]{0,40} is too large: [\d,]+\. "
    r"this model supports at most (?P<a>[\d,]+)"
    r"|valid range of max_(?:completion_)?tokens is \[\d+, ?(?P<b>[\d,]+)\]"
    r"|max_(?:completion_)?tokens[^\n]{0,40}integer above maximum value[.,] "
    r"expected a value <= (?P<c>[\d,]+)"
    r"|range of max_(?:completion_)?tokens should be \[\d+, ?(?P<d>[\d,]+)\]"
    r"|max_(?:completion_)?tokens must be less than or equal to (?P<e>[\d,]+)"
    r"|max_(?:completion_)?tokens: [\d,]+ > (?P<f>[\d,]+), which is the maximum",
    re.IGNORECASE,
)

PARAMETERS = (
    "chat_template_kwargs", "enable_thinking", "frequency_penalty", "include_reasoning",
    "logit_bias", "parallel_tool_calls", "presence_penalty", "prompt_cache_key",
    "reasoning_effort", "repetition_penalty", "service_tier", "stream_options", "temperature",
    "tool_choice", "top_k", "top_p",
)  # fmt: skip
"""Optional parameters whose names cannot be taken for prose."""
WORDS = ("metadata", "n", "reasoning", "seed", "stop", "store", "thinking", "user")
"""Optional parameters that are English words: recognised only where called a parameter."""

_NAME = "|".join((*PARAMETERS, *WORDS))
_UNSUPPORTED = re.compile(
    rf"unsupported (?:parameter|value):? (?P<a>{_NAME})(?![\w.-])"
    rf"|unknown (?:parameter|name):? (?P<b>{_NAME})(?![\w.-])"
    rf"|unrecognized request arguments? supplied:? (?P<c>(?:{_NAME})(?:, ?(?:{_NAME}))*)(?![\w.-])"
    rf"|property (?P<d>{_NAME}) is unsupported"
    rf"|(?<![\w.\]])(?:body\.)?(?P<e>{_NAME}): extra inputs are not permitted"
    rf"|\b(?P<f>{'|'.join(PARAMETERS)}) (?:is|are) not supported"
    rf"|does not support (?:the )?(?:parameter )?(?P<g>{'|'.join(PARAMETERS)})(?![\w.-])",
    re.IGNORECASE,
)
_STRUCTURED = (
    r"response_format[^\n]{0,60}(?:not supported|unsupported|unavailable|extra inputs|not allowed)",
    r"(?:unsupported (?:parameter|value)|unknown (?:parameter|name)"
    r"|unrecognized request argument supplied):? response_format",
    r"(?:does not support|unsupported property) response_format",
    r"invalid schema for response_format",
    r"property response_format is unsupported",
)
LESS_STRUCTURE = {"json_schema": "json_object", "json_object": "none"}

FACTS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    (
        r"function\.strict: extra inputs|property strict is unsupported"
        r"|unknown (?:parameter|name):? tools\[?\.?\d+\]?\.function\.strict",
        {"strict_tools": False},
    ),
    (
        r"cache_control: extra inputs|property cache_control is unsupported",
        {"cache_control": "drop"},
    ),
)
"""What has a switch of its own, because dropping a parameter does not reach it."""


def _swap_tokens_field(draft: Draft, said: str, target: Target) -> Draft | None:
    found = _TOKENS_FIELD.search(said)
    if found is None:
        return None
    named = found["refused"] or found["property"] or found["extra"]
    field = _OTHER_FIELD[named.lower()] if named else found["new"].lower()
    return override(draft, target, {"max_tokens_field": field})


def _limit_tokens(draft: Draft, said: str, target: Target) -> Draft | None:
    found = _TOKEN_LIMIT.search(said)
    most = number(next(filter(None, found.groups()))) if found else 0
    known = whole(switch(draft, target, "max_output_tokens"))
    asked = whole(draft.document.get("max_tokens"))
    if most < 1 or (asked is not None and asked <= most) or (known is not None and known <= most):
        return None
    return override(draft, target, {"max_output_tokens": most})


def _drop_unsupported(draft: Draft, said: str, target: Target) -> Draft | None:
    """Drops exactly the parameters that were named; structured output steps down instead."""
    turned: dict[str, Any] = {}
    for pattern, values in FACTS:
        if re.search(pattern, said, re.IGNORECASE):
            turned.update(values)
    if any(re.search(pattern, said, re.IGNORECASE) for pattern in _STRUCTURED):
        now = switch(draft, target, "structured_output", "json_schema")
        turned["structured_output"] = LESS_STRUCTURE.get(now, "none")
    names = [
        name.strip().lower()
        for found in _UNSUPPORTED.finditer(said)
        for group in filter(None, found.groups())
        for name in group.split(",")
    ]
    if names:
        turned |= added(draft, target, "drop_params", dict.fromkeys(names))
    return override(draft, target, turned)


def _drop_user(draft: Draft, said: str, target: Target) -> Draft | None:
    dropped = added(draft, target, "drop_params", {"user": None})
    return override(draft, target, {"user_field": "none", **dropped})


REPAIRS = (
    Rule(
        name="max_tokens_field",
        label="Send the output limit in the field that the model knows",
        formats=OPENAI,
        statuses=VALIDATION,
        says=_TOKENS_FIELD,
        mend=_swap_tokens_field,
        learns=frozenset({"max_tokens_field"}),
    ),
    Rule(
        name="token_limit",
        label="Ask for no more output than the provider allows",
        formats=OPENAI,
        says=_TOKEN_LIMIT,
        mend=_limit_tokens,
        learns=frozenset({"max_output_tokens"}),
        on_overflow=True,
    ),
    Rule(
        name="user_field",
        label="Drop a user id that the provider refuses",
        formats=OPENAI,
        statuses=VALIDATION,
        says=wording(
            r"invalid user: (?:string too long|string does not match)",
            r"\buser: string (?:should|too|does)",
            r"(?:param(?:eter)?|length of|field) user(?:_id)?[^\n]{0,40}"
            r"(?:too long|length|between \d+ and \d+ characters|pattern)",
            r"unique id of the user must be between \d+ and \d+ characters",
        ),
        mend=_drop_user,
        learns=frozenset({"user_field", "drop_params"}),
    ),
    Rule(
        name="unsupported_parameter",
        unless=wording(r"function tools with reasoning_effort are not supported"),
        label="Drop parameters that the model does not take",
        formats=OPENAI,
        statuses=VALIDATION,
        says=wording(_UNSUPPORTED.pattern, *_STRUCTURED, *(p for p, _ in FACTS)),
        mend=_drop_unsupported,
        learns=frozenset({"drop_params", "structured_output", "strict_tools", "cache_control"}),
        runs=3,
    ),
)
