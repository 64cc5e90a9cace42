"""Which tools are offered, under which names, and what the model must do with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.formats.openai_chat.content import Block
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
class Mentions:
    """Which tools the conversation itself speaks of, and what system messages define."""

    called: set[str] = field(default_factory=set)
    loaded: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    defined: list[Tool] = field(default_factory=list)

    def apply(self, changes: Iterable[Block]) -> None:
        """Takes `tool_addition` and `tool_removal` blocks over, in their order."""
        for change in changes:
            tool = change.get("tool")
            if not isinstance(tool, dict):
                continue
            definition = tool.get("definition")
            adds = change["type"] == "tool_addition"
            if isinstance(definition, dict):
                name = definition.get("name")
                if adds:
                    self.defined.append(definition)
            else:
                name = tool.get("name") or tool.get("tool_name")
            if isinstance(name, str):
                (self.loaded if adds else self.removed).add(name)
                (self.removed if adds else self.loaded).discard(name)


def offered_tools(
    document: Mapping[str, Any], mentions: Mentions, profile: Profile, ledger: Ledger
) -> list[Tool]:
    """The client's tools that this provider gets to see, still in Anthropic's shape."""
    declared = document.get("tools")
    tools = (
        [tool for tool in declared if isinstance(tool, dict)] if isinstance(declared, list) else []
    )
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
    offered: Mapping[str, Tool], tools: list[Tool], mentions: Mentions
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
