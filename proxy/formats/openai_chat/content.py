"""Content as Anthropic's API takes it: a text, or a list of blocks."""

from __future__ import annotations

from typing import Any

Block = dict[str, Any]


def blocks_of(content: Any) -> list[Block]:
    """Content as blocks: a string is one text block; what is no block is left out."""
    if isinstance(content, list):
        for block in content:
            if type(block) is not dict:
                return [as_block(item) for item in content if isinstance(item, (dict, str))]
        return content
    if isinstance(content, (dict, str)):
        return [as_block(content)]
    return []


def text_of(block: Block) -> str:
    """The text of a text block, "" if it has none."""
    text = block.get("text")
    return text if isinstance(text, str) else ""


def as_block(item: Any) -> Block:
    """A text as a block; what is no block at all says nothing."""
    if isinstance(item, dict):
        return item
    return {"type": "text", "text": item if isinstance(item, str) else ""}
