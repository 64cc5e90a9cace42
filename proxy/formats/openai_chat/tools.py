"""Which tools are offered, under which names, and what the model must do with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.formats.openai_chat.content import Block, blocks_of
from proxy.formats.openai_chat.conversation import Conversation
from proxy.formats.openai_chat.identifiers import ToolNames
from proxy.formats.openai_chat.ledger import Ledger
from proxy.formats.openai_chat.profile import Profile
from proxy.formats.openai_chat.schema import clean_schema, is_strict

Tool = dict[str, Any]

_SERVER_TYPES = (
    "web_search_",
    "web_fetch_",
    "code_execution_",
    "advisor_",
    "tool_search_tool_",
    "mcp_toolset",
    "memory_",
    "bash_",
    "text_editor_",
    "computer_",
    "computer_toolset_",
    "browser_toolset_",
)

_TOOL_SEARCH_NAME = re.compile(r"tool_?search", re.IGNORECASE)
_CHOICES = {"auto": "auto", "any": "required", "required": "required", "none": "none"}


@dataclass(slots=True)
class _Mentions:
    """Which tools the conversation itself speaks of."""

    called: set[str] = field(default_factory=set)
    loaded: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    defined: list[Tool] = field(default_factory=list)


def offered_tools(
    document: Mapping[str, Any], conversation: Conversation, profile: Profile, ledger: Ledger
) -> list[Tool]:
    """The client's tools that this provider gets to see, still in Anthropic's shape."""
    declared = document.get("tools")
    tools = (
        [tool for tool in declared if isinstance(tool, dict)] if isinstance(declared, list) else []
    )
    mentions = _mentions(tools, conversation, profile)
    offered: dict[str, Tool] = {}
    for tool in [*tools, *mentions.defined]:
        name = tool.get("name")
        if (
            not isinstance(name, str)
            or not name
            or not _is_custom(tool)
            or name in profile.drop_tools
        ):
            ledger.drop(f"tools.{name or tool.get('type')}")
        elif name not in offered:
            offered[name] = tool
    listed = _without_deferred(offered, tools, mentions)
    if len(listed) > profile.max_tools:
        ledger.drop("tools.beyond_limit", len(listed) - profile.max_tools)
        used = [tool for tool in listed if tool["name"] in mentions.called]
        kept = {tool["name"] for tool in used[: profile.max_tools]}
        for tool in listed:
            if len(kept) < profile.max_tools:
                kept.add(tool["name"])
        listed = [tool for tool in listed if tool["name"] in kept]
    return listed


def function_tools(
    tools: Iterable[Tool], names: ToolNames, profile: Profile, ledger: Ledger
) -> list[Tool]:
    """Tools in OpenAI's shape: name, description and parameters, nothing else of theirs."""
    return [_function_tool(tool, names, profile, ledger) for tool in tools]


def tool_choice_params(
    document: Mapping[str, Any], offered: Iterable[Tool], names: ToolNames, profile: Profile
) -> dict[str, Any]:
    """`tool_choice` and `parallel_tool_calls`, as far as the request says anything about them."""
    choice = document.get("tool_choice")
    if isinstance(choice, str):
        choice = {"type": choice}
    if not isinstance(choice, dict):
        return {}
    params: dict[str, Any] = {}
    kind = choice.get("type")
    if kind == "tool":
        name = choice.get("name")
        if isinstance(name, str) and any(tool["name"] == name for tool in offered):
            params["tool_choice"] = {"type": "function", "function": {"name": names.wire(name)}}
    elif isinstance(kind, str) and kind in _CHOICES:
        params["tool_choice"] = _CHOICES[kind]
    if "tool_choice" in params and profile.force_tool_choice_auto and kind != "none":
        params["tool_choice"] = "auto"
    if choice.get("disable_parallel_tool_use") is True:
        params["parallel_tool_calls"] = False
    return params


def _function_tool(tool: Tool, names: ToolNames, profile: Profile, ledger: Ledger) -> Tool:
    ledger.drop_cache_control(tool)
    function: Tool = {"name": names.wire(tool["name"])}
    if isinstance(tool.get("description"), str) and tool["description"]:
        function["description"] = tool["description"]
    function["parameters"] = clean_schema(tool.get("input_schema"), profile.schema_dialect)
    if tool.get("strict") is True and profile.strict_tools and is_strict(function["parameters"]):
        function["strict"] = True
    return {"type": "function", "function": function}


def _is_custom(tool: Tool) -> bool:
    """Whether the client runs this tool itself: all others exist on Anthropic's servers only."""
    kind = tool.get("type")
    if kind is None or kind == "custom":
        return True
    if not isinstance(kind, str) or kind.startswith(_SERVER_TYPES):
        return False
    return isinstance(tool.get("input_schema"), dict)


def _without_deferred(
    offered: Mapping[str, Tool], tools: list[Tool], mentions: _Mentions
) -> list[Tool]:
    """A deferred tool is offered once it was loaded or called, or if nothing could ever load it."""
    searchable = bool(mentions.loaded) or any(
        _TOOL_SEARCH_NAME.search(str(tool.get("name", ""))) for tool in tools
    )
    known = mentions.called | mentions.loaded
    return [
        tool
        for name, tool in offered.items()
        if name not in mentions.removed
        and (not searchable or name in known or tool.get("defer_loading") is not True)
    ]


def _mentions(tools: list[Tool], conversation: Conversation, profile: Profile) -> _Mentions:
    mentions = _Mentions()
    deferred = any(tool.get("defer_loading") is True for tool in tools)
    if deferred or len(tools) > profile.max_tools:
        mentions.called = {call["name"] for call in conversation.calls()}
    if deferred:
        mentions.loaded = set(_references(conversation))
    for change in conversation.tool_changes:
        _apply_change(change, mentions)
    return mentions


def _apply_change(change: Block, mentions: _Mentions) -> None:
    tool = change.get("tool")
    if not isinstance(tool, dict):
        return
    definition = tool.get("definition")
    adds = change["type"] == "tool_addition"
    if isinstance(definition, dict):
        name = definition.get("name")
        if adds:
            mentions.defined.append(definition)
    else:
        name = tool.get("name") or tool.get("tool_name")
    if isinstance(name, str):
        (mentions.loaded if adds else mentions.removed).add(name)
        (mentions.removed if adds else mentions.loaded).discard(name)


def _references(conversation: Conversation) -> Iterable[str]:
    """The tools that results of a tool search have named."""
    for turn in conversation.turns:
        for block in turn.blocks:
            if block.get("type") in ("tool_result", "tool_search_tool_result"):
                yield from _reference_names(block.get("content"))
    for result in conversation.pairs.results.values():
        if result is not None:
            yield from _reference_names(result.get("content"))


def _reference_names(content: Any) -> Iterable[str]:
    for item in blocks_of(content):
        if item.get("type") == "tool_reference" and isinstance(item.get("tool_name"), str):
            yield item["tool_name"]
        elif "tool_references" in item:
            yield from _reference_names(item["tool_references"])
