"""JSON as it leaves: compact, in the order of its keys, whatever the strings hold."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

_SURROGATE = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\ufffd"


def dump(value: Any) -> bytes:
    """Compact UTF-8 JSON. Half an emoji (a lone surrogate) becomes U+FFFD."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        # also for integers beyond 64 bits, which clients may legally send
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return mend(text).encode()


def dump_text(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        return dump(value).decode()


def mend(text: str) -> str:
    """`text` with pairs of surrogates joined, and lone ones replaced."""
    if _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
