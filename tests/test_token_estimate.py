"""Token counts without a tokenizer."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import RequestRefused
from proxy.formats.estimate import estimate_input_tokens, image_tokens, pdf_tokens, text_tokens
from proxy.formats.openai_chat import OPENAI_CHAT
from tests.openai_dialect import (
    IMAGE,
    PDF,
    SCHEMA,
    asking,
    assistant,
    call_of,
    call_with,
    system_message,
    target,
    text,
    tool,
    tool_result,
    tool_use,
    user,
    way_back,
)


def converted(document: dict[str, Any], **profile: Any) -> int:
    return OPENAI_CHAT.count_tokens(call_of(document), target(**profile))


def without_usage(document: dict[str, Any]) -> int:
    """The estimate that stands in where a provider tells no usage."""
    return way_back(document)._context.input_estimate


ESTIMATES = [estimate_input_tokens, converted, without_usage]
everywhere = pytest.mark.parametrize("estimate", ESTIMATES, ids=lambda f: f.__name__)


@everywhere
def test_c01_there_is_always_something(estimate: Any) -> None:
    assert estimate(asking("x")) >= 1


MORE = {
    "text": asking("hi", "some more words"),
    "a tool": asking("hi", tools=[tool("Bash")]),
    "a system prompt": asking("hi", system="Be brief and clear"),
    "a tool call": asking("hi", assistant(tool_use("t", "Bash", {"command": "ls -l"}))),
    "a tool result": asking("hi", assistant(tool_use("t")), user(tool_result("t", "a b c"))),
    "an image": asking("hi", user(IMAGE)),
    "a document": asking("hi", user(PDF)),
    "a system message": asking("hi", system_message("Be brief")),
}


@everywhere
@pytest.mark.parametrize("more", MORE.values(), ids=MORE)
def test_c01_more_content_counts_more(estimate: Any, more: dict[str, Any]) -> None:
    assert estimate(more) > estimate(asking("hi"))


@everywhere
def test_c01_base64_is_not_text(estimate: Any) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "A" * 2_000_000}

    added = estimate(asking("hi", user({"type": "image", "source": source}))) - estimate(
        asking("hi")
    )
    assert 0 < added < 5000


@everywhere
def test_c01_chinese_counts_by_the_character(estimate: Any) -> None:
    assert 60 <= estimate(asking("\u4e2d" * 100)) - estimate(asking("\u4e2d")) + 1 <= 160


TEXTS = {
    "": 0,
    "a" * 36: 10,
    "a" * 37: 11,
    "\u4e2d\u6587": 2,
    "\U0001f600" * 5: 2,
    "\u00e9" * 10: 4,
    "ab\u4e2d" * 10: math.ceil(20 / 3.6 + 10),
    "\ud83d": 1,
}


@pytest.mark.parametrize(("words", "tokens"), TEXTS.items(), ids=ascii)
def test_texts(words: str, tokens: int) -> None:
    assert text_tokens(words) == tokens


def encoded(*parts: bytes) -> str:
    return base64.b64encode(b"".join(parts) + bytes(64)).decode()


JPEG = (
    b"\xff\xd8\xff\xe1\x9c\x42",
    bytes(0x9C40),
    b"\xff\xc0\x00\x11\x08",
    struct.pack(">HH", 280, 560),
)
IMAGES = {
    "PNG": (encoded(b"\x89PNG\r\n\x1a\n", bytes(8), struct.pack(">II", 560, 281)), 20 * 11),
    "PNG, as an address": (
        "data:image/png;base64,"
        + encoded(b"\x89PNG\r\n\x1a\n", bytes(8), struct.pack(">II", 28, 28)),
        1,
    ),
    "GIF": (encoded(b"GIF89a", struct.pack("<HH", 56, 29)), 4),
    "JPEG behind its metadata": (encoded(*JPEG), 200),
    "WebP VP8X": (
        encoded(b"RIFF", bytes(4), b"WEBPVP8X", bytes(8), b"\x37\x00\x00", b"\x1b\x00\x00"),
        2,
    ),
    "WebP VP8": (
        encoded(b"RIFF", bytes(4), b"WEBPVP8 ", bytes(10), struct.pack("<HH", 56, 28)),
        2,
    ),
    "WebP VP8L": (
        encoded(b"RIFF", bytes(4), b"WEBPVP8L", bytes(5), struct.pack("<I", 55 | 27 << 14)),
        2,
    ),
    "very large": (
        encoded(b"\x89PNG\r\n\x1a\n", bytes(8), struct.pack(">II", 9000, 9000)),
        4784,
    ),
    "unknown": (encoded(b"BM"), 1600),
    "not base64": ("*** no image ***", 1600),
    "nothing": ("", 1600),
}


@pytest.mark.parametrize(("data", "tokens"), IMAGES.values(), ids=IMAGES)
def test_images_count_by_their_size(data: str, tokens: int) -> None:
    assert image_tokens(data) == tokens


def test_pdfs_count_by_their_length() -> None:
    assert pdf_tokens(8) == 1500
    assert pdf_tokens(51200 * 4 // 3 * 10) == pytest.approx(20000, abs=2)


def test_c03_what_is_not_sent_does_not_count() -> None:
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}

    assert converted(asking("hi", tools=[search])) == converted(asking("hi"))
    assert converted(asking(user(IMAGE)), images=False) < 50
    schema = {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert converted(asking("hi", output_config=schema)) > converted(asking("hi"))


def test_c03_counting_needs_no_limit_but_a_conversation() -> None:
    limitless = asking("hi")
    del limitless["max_tokens"]

    assert converted(limitless) == converted(asking("hi", max_tokens=-1))
    with pytest.raises(RequestRefused):
        converted({"model": "m"})


def test_odd_documents_are_counted_as_far_as_they_go() -> None:
    odd = {"system": 5, "messages": [None, {"content": [5, {"type": "image"}]}], "tools": [3]}

    assert estimate_input_tokens(odd) >= 1
    assert estimate_input_tokens({}) == 1
    half = b'{"messages":[{"role":"user","content":[{"type":"tool_use","input":"\\ud83d"}]}]}'
    assert estimate_input_tokens(call_with(half, {}).document()) >= 1


words = st.text(max_size=60)


@given(st.lists(words, min_size=1, max_size=5), words)
def test_adding_a_message_never_lowers_the_count(history: list[str], added: str) -> None:
    blocks = [user(text(entry)) for entry in history]
    before = {"messages": blocks}

    assert estimate_input_tokens({"messages": [*blocks, user(text(added))]}) > (
        estimate_input_tokens(before) if any(history) else 0
    )
