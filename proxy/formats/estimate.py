"""A token count without a tokenizer: roughly right, never absurd.

Every figure is at least 1, grows with what is added, and takes the size of
images and PDFs from what they are, not from the length of their base64.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

ASCII_PER_TOKEN = 3.6
OTHER_PER_TOKEN = 2.5
JSON_PER_TOKEN = 3.2
PER_MESSAGE = 4
PER_TOOL = 8
TOOLS_PREAMBLE = 350
IMAGE_DEFAULT = 1600
IMAGE_MAX = 4784
_IMAGE_PATCH = 28
_PDF_PER_50_KB = 2000
_PDF_MIN = 1500
_SHORT_HEADER_CHARS = 64
_LONG_HEADER_CHARS = 96 * 1024
_JPEG = b"\xff\xd8"

_CJK = re.compile(
    "[\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef"
    "\U00020000-\U0003ffff]+"
)


def text_weight(text: str, ascii_per_token: float = ASCII_PER_TOKEN) -> float:
    """Tokens of a text, not rounded: CJK characters count one each."""
    if text.isascii():
        return len(text) / ascii_per_token
    ascii_chars = len(text.encode("ascii", "ignore"))
    cjk = sum(map(len, _CJK.findall(text)))
    other = len(text) - ascii_chars - cjk
    return ascii_chars / ascii_per_token + cjk + other / OTHER_PER_TOKEN


def text_tokens(text: str) -> int:
    return math.ceil(text_weight(text))


def json_tokens(value: Any) -> int:
    """Tokens of a value that the model sees as JSON."""
    return json_text_tokens(_compact(value))


def json_text_tokens(text: str) -> int:
    return math.ceil(text_weight(text, JSON_PER_TOKEN))


def image_tokens(data: str) -> int:
    """Tokens of a base64 image, by its dimensions if its header tells them."""
    head = _head(data, _SHORT_HEADER_CHARS)
    if head.startswith(_JPEG):  # its dimensions come after whatever metadata it carries
        head = _head(data, _LONG_HEADER_CHARS)
    dimensions = _dimensions(head)
    if dimensions is None:
        return IMAGE_DEFAULT
    width, height = dimensions
    return max(1, min(IMAGE_MAX, -(-width // _IMAGE_PATCH) * -(-height // _IMAGE_PATCH)))


def pdf_tokens(base64_length: int) -> int:
    return max(_PDF_MIN, math.ceil(base64_length * 3 / 4 / 51200 * _PDF_PER_50_KB))


def estimate_input_tokens(document: Mapping[str, Any]) -> int:
    """Input tokens of an Anthropic Messages request; fields of the wrong type count nothing."""
    total = _content_tokens(document.get("system"))
    messages = document.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict):
            total += PER_MESSAGE + _content_tokens(message.get("content"))
    tools = document.get("tools")
    if isinstance(tools, list) and tools:
        total += tools_tokens(tools)
    return max(1, total)


def tools_tokens(tools: Iterable[Any]) -> int:
    return TOOLS_PREAMBLE + sum(PER_TOOL + json_tokens(tool) for tool in tools)


def _content_tokens(content: Any) -> int:
    if isinstance(content, str):
        return text_tokens(content)
    if isinstance(content, dict):
        return _block_tokens(content)
    if not isinstance(content, list):
        return 0
    return sum(_content_tokens(block) for block in content)


def _block_tokens(block: Mapping[str, Any]) -> int:
    match block.get("type"):
        case "image":
            return _source_tokens(block.get("source"), image_tokens)
        case "document":
            words = sum(_content_tokens(block.get(key)) for key in ("title", "context"))
            return words + _source_tokens(block.get("source"), lambda data: pdf_tokens(len(data)))
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            return _content_tokens(block.get("name")) + json_tokens(block.get("input"))
        case "redacted_thinking":
            return 0
    return sum(
        _content_tokens(block.get(key))
        for key in ("text", "thinking", "title", "source", "url", "stdout", "stderr", "content")
    )


def _source_tokens(source: Any, binary_tokens: Any) -> int:
    if not isinstance(source, dict):
        return 0
    data = source.get("data")
    if source.get("type") == "text":
        return _content_tokens(data)
    if source.get("type") == "content":
        return _content_tokens(source.get("content"))
    if isinstance(data, str):
        return int(binary_tokens(data))
    return IMAGE_DEFAULT


def _compact(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # lone surrogates: their escapes will do for counting
        return str(value)


def _head(data: str, chars: int) -> bytes:
    """The first bytes of base64 data, with or without `data:` in front."""
    start = data.find(",") + 1 if data.startswith("data:") else 0
    chunk = data[start : start + chars]
    try:
        return base64.b64decode(chunk[: len(chunk) // 4 * 4], validate=False)
    except (binascii.Error, ValueError):
        return b""


def _dimensions(head: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of a PNG, GIF, WebP or JPEG, from its first bytes."""
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) >= 24:
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if head.startswith((b"GIF87a", b"GIF89a")) and len(head) >= 10:
        return int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _webp_dimensions(head)
    if head.startswith(_JPEG):
        return _jpeg_dimensions(head)
    return None


def _webp_dimensions(head: bytes) -> tuple[int, int] | None:
    if len(head) < 30:
        return None
    match head[12:16]:
        case b"VP8X":
            width = int.from_bytes(head[24:27], "little") + 1
            return width, int.from_bytes(head[27:30], "little") + 1
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            width = int.from_bytes(head[26:28], "little") & 0x3FFF
            return width, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None


def _jpeg_dimensions(head: bytes) -> tuple[int, int] | None:
    """Walks the segments of a JPEG up to its frame header (ITU-T T.81, B.1)."""
    position = 2
    while position + 9 <= len(head) and head[position] == 0xFF:
        marker = head[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height = int.from_bytes(head[position + 5 : position + 7], "big")
            return int.from_bytes(head[position + 7 : position + 9], "big"), height
        else:
            position += 2 + int.from_bytes(head[position + 2 : position + 4], "big")
    return None
