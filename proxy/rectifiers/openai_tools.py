"""Tools of OpenAI-format requests, and what a model's reasoning does to them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from providers.routing import Target
from proxy.rectifiers.base import OPENAI, Draft, Rule, override, switch, with_document, wording
from proxy.rectifiers.document import listed, put, without

FORCED_EFFORT = "reasoning_effort_override"

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_EFFORTS = re.compile(
    r"(?:reasoning_effort|reasoning\.effort)[^\n]*?"
    r"(?:supported values are|must be one of|input should be|expected one of):? ?[\[(]?"
    r"(?P<values>[^\n.(\])]+)",
    re.IGNORECASE,
)
_EFFORT_WITH_TOOLS = r"function tools with reasoning_effort are not supported"
_NONE_REFUSED = r"reasoning_effort does not support none\b"


_TOO_MANY_TOOLS = re.compile(
    r"invalid tools: array too long\. expected an array with maximum length (?P<a>\d+)"
    r"|too many tools[^\n\d]{0,80}(?:max|limit|at most)[^\n\d]{0,40}(?P<b>\d+)",
    re.IGNORECASE,
)


def _effort_none(draft: Draft, said: str, target: Target) -> Draft | None:
    if not listed(draft.document, "tools"):
        return None
    return override(draft, target, {FORCED_EFFORT: "none"})


def _list_efforts(draft: Draft, said: str, target: Target) -> Draft | None:
    found = _EFFORTS.search(said)
    if found is None or switch(draft, target, FORCED_EFFORT):
        return None
    words = re.findall(r"[a-z]+", found["values"].lower())
    levels = [effort for effort in EFFORTS if effort in words]
    return override(draft, target, {"effort_levels": levels}) if levels else None


def _no_tools(draft: Draft, said: str, target: Target) -> Draft | None:
    """Only after "none" was forced does the refusal of an effort mean that tools cannot work."""
    about_effort = re.search(f"{_EFFORT_WITH_TOOLS}|{_NONE_REFUSED}", said, re.IGNORECASE)
    if about_effort and switch(draft, target, FORCED_EFFORT) != "none":
        return None
    if not listed(draft.document, "tools"):
        return None
    return override(draft, target, {"supports_tools": False})


def _free_choice(draft: Draft, said: str, target: Target) -> Draft | None:
    choice = draft.document.get("tool_choice")
    if not isinstance(choice, Mapping) or choice.get("type") not in ("any", "tool"):
        return None
    if re.search(r"thinking", said, re.IGNORECASE):  # true of this request only, not of the model
        auto = {**without(choice, "name"), "type": "auto"}
        return with_document(draft, put(draft.document, "tool_choice", auto))
    return override(draft, target, {"force_tool_choice_auto": True})


def _limit_tools(draft: Draft, said: str, target: Target) -> Draft | None:
    found = _TOO_MANY_TOOLS.search(said)
    most = int(found["a"] or found["b"]) if found else 0
    if not 0 < most < len(listed(draft.document, "tools")):
        return None
    return override(draft, target, {"max_tools": most})


REPAIRS = (
    Rule(
        name="tools_unsupported",
        label="Pass over models that cannot call tools",
        formats=OPENAI,
        says=wording(
            r"does not support (?:tools|tool[ _](?:use|calls?|calling))\b",
            r"does not support function[ _]call(?:s|ing)?\b",
            r"\btools (?:is|are) not supported (?:by|for|in|on|with) (?:this|the) (?:model|engine)",
            r"auto tool choice requires --enable-auto-tool-choice",
            _EFFORT_WITH_TOOLS,
            _NONE_REFUSED,
        ),
        mend=_no_tools,
        learns=frozenset({"supports_tools"}),
        gives_up=True,
    ),
    Rule(
        name="effort_with_tools",
        label="Switch reasoning off where it excludes tools",
        formats=OPENAI,
        says=wording(_EFFORT_WITH_TOOLS),
        mend=_effort_none,
        learns=frozenset({FORCED_EFFORT}),
    ),
    Rule(
        name="effort_level",
        label="Ask for an effort that the model knows",
        formats=OPENAI,
        says=_EFFORTS,
        mend=_list_efforts,
        learns=frozenset({"effort_levels"}),
    ),
    Rule(
        name="forced_tool_choice",
        label="Let the model choose its tool where that cannot be forced",
        formats=OPENAI,
        says=wording(
            r"does not support this tool_choice",
            r"tool_choice (?:required|any|function|named) is not supported",
            r"tool_choice[^\n]{0,30} does not support being set to",
            r"does not support (?:a )?(?:forced|named|required) tool[ _]choice",
            r"named tool[ _]choice[^\n]{0,30} not supported",
            r"tool_choice (?:must be|only supports|should be)[^\n]{0,20} auto\b",
            r"only auto[^\n]{0,20} tool_choice",
        ),
        mend=_free_choice,
        learns=frozenset({"force_tool_choice_auto"}),
    ),
    Rule(
        name="too_many_tools",
        label="Offer no more tools than the provider takes",
        formats=OPENAI,
        says=_TOO_MANY_TOOLS,
        mend=_limit_tools,
        learns=frozenset({"max_tools"}),
    ),
)
