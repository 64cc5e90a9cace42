"""The token estimate of a converted request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.formats.estimate import (
    IMAGE_DEFAULT,
    PER_MESSAGE,
    image_tokens,
    json_text_tokens,
    json_tokens,
    pdf_tokens,
    text_tokens,
    tools_tokens,
)


def estimate_chat_tokens(body: Mapping[str, Any]) -> int:
    """Input tokens of a Chat Completions request: what was left out does not count."""
    total = sum(PER_MESSAGE + _message_tokens(message) for message in body["messages"])
    if body.get("tools"):
        total += tools_tokens(tool["function"] for tool in body["tools"])
    if body.get("response_format"):
        total += json_tokens(body["response_format"])
    return max(1, total)


def _message_tokens(message: Mapping[str, Any]) -> int:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
    total = sum(map(_part_tokens, parts))
    for call in message.get("tool_calls", ()):
        function = call["function"]
        total += text_tokens(function["name"]) + json_text_tokens(function["arguments"])
    for key in ("reasoning_content", "reasoning"):
        total += text_tokens(message.get(key, ""))
    return total


def _part_tokens(part: Mapping[str, Any]) -> int:
    match part["type"]:
        case "text":
            return text_tokens(part["text"])
        case "image_url":
            url = part["image_url"]["url"]
            return image_tokens(url) if url.startswith("data:") else IMAGE_DEFAULT
    return pdf_tokens(len(part["file"]["file_data"]))
