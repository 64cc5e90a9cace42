"""The `thinking` setting itself, and parameters that do not go with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from providers.routing import Target
from proxy.rectifiers.base import (
    ANTHROPIC,
    Draft,
    Rule,
    on_document,
    switch,
    with_document,
    wording,
)
from proxy.rectifiers.document import Document, put, without
from proxy.rectifiers.thinking import (
    drop_unbacked_thinking,
    thinking_type,
    without_thinking_setting,
)

MIN_BUDGET = 1024
EFFORT_BELOW = ((4_000, "low"), (16_000, "medium"))
"""A thinking budget below so many tokens stands for this effort; more is "high"."""
BUDGETS = {"low": 2_048, "medium": 8_192, "high": 16_384}
EFFORTS_OF_THINKING = frozenset({"xhigh", "max"})


def whole(value: object) -> int | None:
    """A whole number, None for anything else (True is no number)."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def fit_budget(document: Document, most: int | None) -> Document:
    """The document with a thinking budget of at least 1024 that leaves room in `max_tokens`.

    The budget shrinks if it can, else `max_tokens` grows, up to `most`; where
    neither is possible thinking is dropped. Only "enabled" has a budget.
    """
    thinking = document.get("thinking")
    if not isinstance(thinking, Mapping) or thinking_type(document) != "enabled":
        return document
    budget = max(MIN_BUDGET, whole(thinking.get("budget_tokens")) or 0)
    room = whole(document.get("max_tokens"))
    if room is not None and room <= budget:
        if room > MIN_BUDGET:
            budget = room - 1
        elif most is not None and most <= MIN_BUDGET:
            return without_thinking_setting(document)
        else:
            room = min(budget + MIN_BUDGET, most or budget + MIN_BUDGET)
            budget = min(budget, room - 1)
            document = put(document, "max_tokens", room)
    if thinking.get("budget_tokens") == budget:
        return document
    return put(document, "thinking", put(thinking, "budget_tokens", budget))


def _fit_budget(draft: Draft, said: str, target: Target) -> Draft | None:
    most = whole(switch(draft, target, "max_output_tokens"))
    return with_document(draft, fit_budget(draft.document, most))


def _to_adaptive(document: Document) -> Document:
    """A budget becomes an effort, unless the request names an effort already."""
    thinking = document.get("thinking")
    if not isinstance(thinking, Mapping) or thinking_type(document) != "enabled":
        return document
    budget = whole(thinking.get("budget_tokens"))
    document = put(document, "thinking", {**without(thinking, "budget_tokens"), "type": "adaptive"})
    if _effort(document) or budget is None:
        return document
    return _with_effort(document, effort_of(budget))


def _to_enabled(document: Document) -> Document:
    """An effort becomes a budget below `max_tokens`; without room for one, thinking goes."""
    thinking = document.get("thinking")
    if not isinstance(thinking, Mapping) or thinking_type(document) != "adaptive":
        return document
    room = whole(document.get("max_tokens"))
    if room is not None and room <= MIN_BUDGET:
        return without_thinking_setting(document)
    budget = BUDGETS.get(_effort(document), BUDGETS["high"])
    if room is not None:
        budget = min(budget, room - 1)
    enabled = {**thinking, "type": "enabled", "budget_tokens": budget}
    return drop_unbacked_thinking(put(document, "thinking", enabled))


def _not_disabled(document: Document) -> Document:
    return without(document, "thinking") if thinking_type(document) == "disabled" else document


def _lower_effort(document: Document) -> Document:
    if thinking_type(document) != "disabled" or _effort(document) not in EFFORTS_OF_THINKING:
        return document
    return _with_effort(document, "high")


def effort_of(budget: int) -> str:
    """The effort that a thinking budget of so many tokens stands for."""
    return next((effort for most, effort in EFFORT_BELOW if budget < most), "high")


def _effort(document: Document) -> str:
    config = document.get("output_config")
    effort = config.get("effort") if isinstance(config, Mapping) else None
    return effort if isinstance(effort, str) else ""


def _with_effort(document: Document, effort: str) -> Document:
    config: Any = document.get("output_config")
    return put(
        document,
        "output_config",
        put(config if isinstance(config, Mapping) else {}, "effort", effort),
    )


TYPE_TABLE: tuple[tuple[str, str, Callable[[Document], Document]], ...] = (
    (r"effort \w+ is not supported when thinking is disabled", "", _lower_effort),
    (r"thinking\.type\.enabled is not supported", "adaptive", _to_adaptive),
    (
        r"thinking\.type\.adaptive is not supported|adaptive thinking is not supported"
        r"|input tag adaptive found using type does not match",
        "enabled",
        _to_enabled,
    ),
    (r"thinking\.type\.disabled is not supported", "not_disabled", _not_disabled),
)
"""What is said about `thinking.type`, how the model wants it, and the setting made so."""

THINKING_FORM = "thinking_form"


def with_thinking_form(document: Document, form: object) -> Document:
    """The document with thinking asked for as the model wants it: "adaptive", "enabled" or
    "not_disabled"."""
    for _, wanted, change in TYPE_TABLE:
        if wanted and wanted == form:
            return change(document)
    return document


def _mend_type(draft: Draft, said: str, target: Target) -> Draft | None:
    for pattern, form, change in TYPE_TABLE:
        if re.search(pattern, said, re.IGNORECASE):
            document = change(draft.document)
            if document is draft.document:
                return None
            learned = {THINKING_FORM: form} if form else {}
            return replace(draft, document=document, profile={**draft.profile, **learned})
    return None


def _free_choice(document: Document) -> Document:
    choice = document.get("tool_choice")
    if not isinstance(choice, Mapping) or choice.get("type") not in ("any", "tool"):
        return document
    return put(document, "tool_choice", {**without(choice, "name"), "type": "auto"})


REPAIRS = (
    Rule(
        name="thinking_type",
        label="Ask for thinking in the form that the model knows",
        formats=ANTHROPIC,
        says=wording(*(pattern for pattern, _, _ in TYPE_TABLE)),
        mend=_mend_type,
        why="Claude Code changes the thinking field itself when it reads this wording",
        learns=frozenset({THINKING_FORM}),
    ),
    Rule(
        name="thinking_budget",
        label="Fit the thinking budget and the output limit together",
        formats=ANTHROPIC,
        says=wording(
            r"thinking(?:\.enabled)?\.budget_tokens: input should be",
            r"max_tokens must be greater than thinking(?:\.enabled)?\.budget_tokens",
        ),
        mend=_fit_budget,
        on_primary=True,
        why="Claude Code repeats the same body; the smallest change keeps thinking",
    ),
    Rule(
        name="sampling",
        label="Drop temperature, top_p and top_k where the model fixes them",
        formats=ANTHROPIC,
        says=wording(
            r"temperature may only be set to 1 when thinking is enabled",
            r"top_[kp] must be [^\n]{0,60} when thinking is enabled",
            r"temperature and top_p cannot both be specified",
            r"\b(?:temperature|top_[pk]) is (?:deprecated|not supported) (?:for|by|on|with) this",
            r"\b(?:temperature|top_p|top_k): only the default value",
        ),
        mend=on_document(lambda document: without(document, "temperature", "top_p", "top_k")),
        on_primary=True,
        why="the request cannot be answered otherwise; Claude Code repeats the same body",
    ),
    Rule(
        name="thinking_tool_choice",
        label="Let the model choose its tool while it thinks",
        formats=ANTHROPIC,
        says=wording(
            r"thinking may not be enabled when tool_choice forces tool use",
            r"thinking mode does not support this tool_choice",
        ),
        mend=on_document(_free_choice),
        on_primary=True,
        why="Claude Code repeats the same body",
    ),
)
