"""Repairs of tool calls, their results and the offered tools."""

from __future__ import annotations

import re
from typing import Any

from providers.routing import Target
from proxy.rectifiers.base import (
    ANTHROPIC,
    OPENAI,
    Draft,
    Rule,
    on_document,
    with_document,
    wording,
)
from proxy.rectifiers.document import Document, listed, map_objects, without
from proxy.rectifiers.tool_ids import legal_ids, unique_ids
from proxy.rectifiers.tool_pairing import drop_unanswered_server_calls, pair_tools

POISONED = "Claude Code repeats the same history: the session would stay broken"
_SERVER_CALL_UNANSWERED = r"was found without a corresponding \w+_tool_result block"


def _pair(draft: Draft, said: str, target: Target) -> Draft | None:
    document = pair_tools(draft.document)
    if re.search(_SERVER_CALL_UNANSWERED, said, re.IGNORECASE):
        document = drop_unanswered_server_calls(document)
    return with_document(draft, document)


def _unique(document: Document) -> Document:
    """Unique ids, and then pairs again: a renamed call may be left without its result."""
    renamed = unique_ids(document)
    return _unique_tools(document if renamed is document else pair_tools(renamed))


def _unique_tools(document: Document) -> Document:
    names: set[Any] = set()

    def change(tool: Any) -> Any:
        name = tool.get("name")
        if name is not None and name in names:
            return None
        names.add(name)
        return tool

    return map_objects(document, "tools", change)


def _drop_choice(document: Document) -> Document:
    """The document without a tool choice that no offered tool can satisfy."""
    tools = listed(document, "tools")
    choice = document.get("tool_choice")
    wanted = choice.get("name") if isinstance(choice, dict) else None
    names = [tool.get("name") for tool in tools if isinstance(tool, dict)]
    if tools and (wanted is None or wanted in names):
        return document
    return without(document, "tool_choice")


REPAIRS = (
    Rule(
        name="orphan_tool_use",
        label="Answer tool calls that were left without a result",
        formats=ANTHROPIC,
        says=wording(
            r"tool_use ids were found without tool_result blocks immediately after",
            r"did not find \d+ tool_result block(?:\(s\)|s)? at the beginning of this message",
            _SERVER_CALL_UNANSWERED,
        ),
        mend=_pair,
        on_primary=True,
        why=POISONED,
    ),
    Rule(
        name="orphan_tool_result",
        label="Turn results without a tool call into text",
        formats=ANTHROPIC,
        says=wording(
            r"unexpected tool_use_id found in tool_result blocks",
            r"each \w*tool_result block must have a corresponding \w*tool_use block",
            r"each tool_use must have a single result",
            r"tool_result blocks can only be in user messages",
        ),
        unless=wording(r"tool_use ids were found without"),
        mend=_pair,
        on_primary=True,
        why=POISONED,
    ),
    Rule(
        name="duplicate_tool_ids",
        label="Give every tool call and tool a name of its own",
        formats=ANTHROPIC,
        says=wording(r"tool_use ids must be unique", r"tool names must be unique"),
        mend=on_document(_unique),
        on_primary=True,
        why=POISONED,
    ),
    Rule(
        name="tool_id_characters",
        label="Replace characters that tool ids may not have",
        formats=ANTHROPIC,
        says=wording(r"tool_use(?:_id|\.id): string should match pattern \^\[a-zA-Z0-9_-\]\+\$"),
        mend=on_document(legal_ids),
        on_primary=True,
        why=POISONED,
    ),
    Rule(
        name="tool_choice_without_tools",
        label="Drop a tool choice that no tool can satisfy",
        formats=ANTHROPIC,
        says=wording(
            r"tool_choice may only be specified while providing tools",
            r"tool_choice(?: \w+)? (?:requires|is only allowed when) tools",
            r"tool [^\n]{1,200} not found in provided tools",
        ),
        mend=on_document(_drop_choice),
        on_primary=True,
        why="Claude Code repeats the same body",
    ),
    Rule(
        name="tool_adjacency",
        label="Put tool results right after their calls",
        formats=OPENAI,
        says=wording(
            r"assistant message with tool_calls must be followed by tool messages",
            r"role tool must be a response to a prec?e+ding message with tool_calls",
        ),
        mend=on_document(pair_tools),
    ),
)
