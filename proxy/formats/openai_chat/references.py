"""The tools that a tool search has found, as results tell it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from proxy.formats.openai_chat.content import Block, blocks_of


def referenced_tools(content: Any) -> Iterable[str]:
    """The names in the content of a result, whichever way the search was made."""
    for item in blocks_of(content):
        yield from referenced_in(item)


def referenced_in(block: Block) -> Iterable[str]:
    if block.get("type") == "tool_reference" and isinstance(block.get("tool_name"), str):
        yield block["tool_name"]
    elif "tool_references" in block:
        yield from referenced_tools(block["tool_references"])
