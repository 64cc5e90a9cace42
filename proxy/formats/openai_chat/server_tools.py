"""Tools that Anthropic's servers ran, told as text.

They have no result of the client's, so they must not become tool calls; but
what they found is part of the conversation.
"""

from __future__ import annotations

from typing import Any

from proxy.formats.openai_chat.content import Block
from proxy.formats.openai_chat.encoding import dump_text

_MAIN_INPUTS = ("query", "url", "code", "command", "path")
_READABLE = ("error_code", "title", "url", "text", "stdout", "stderr", "data", "content", "source")
_TOOL_SEARCH = "tool_search_tool_result"


def is_server_tool(block_type: object) -> bool:
    if not isinstance(block_type, str):
        return False
    return block_type in ("server_tool_use", "mcp_tool_use") or (
        block_type.endswith("_tool_result") and block_type != "tool_result"
    )


def flatten(block: Block) -> str:
    """One call or result as text, "" if it has nothing to tell."""
    block_type = block["type"]
    if block_type == _TOOL_SEARCH:
        return ""
    if block_type.endswith("_tool_use"):
        return f"[{block.get('name') or 'tool'}: {_main_input(block.get('input'))}]"
    texts = list(dict.fromkeys(_readable(block.get("content"))))
    if not texts:
        return ""
    return "\n".join([f"[{block_type.removesuffix('_tool_result')} result]", *texts])


def _main_input(value: Any) -> str:
    if isinstance(value, dict):
        for key in _MAIN_INPUTS:
            if isinstance(value.get(key), str):
                return str(value[key])
    return dump_text(value) if value else ""


def _readable(value: Any) -> list[str]:
    """The texts in a result, of the known fields only: nothing encrypted or encoded slips in."""
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, list):
        return [text for item in value for text in _readable(item)]
    if not isinstance(value, dict) or value.get("type") == "base64":
        return []
    return [text for key in _READABLE for text in _readable(value.get(key))]
