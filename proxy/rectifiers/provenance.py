"""Who signed the thinking in a history.

Thinking blocks carry a signature of the provider that made them, and only that
provider accepts it. Knowing the signatures that passed, by a short hash, foreign
thinking can be dropped before it is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from proxy.reading import MINTED
from proxy.rectifiers.document import Block, Document, blocks_of, kind, messages_of, role
from proxy.rectifiers.thinking import drop_thinking, drop_unbacked_thinking, is_thinking

_TELLTALES = (b"signature", b"redacted_thinking")
_DATA = b"data:"


def short_hash(signature: str) -> str:
    """16 hexadecimal digits that stand for a signature."""
    return hashlib.sha256(signature.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def signature_of(block: Block) -> str:
    """The signature of a thinking block; of a redacted one, its data. "" without any."""
    found = block.get("data" if kind(block) == "redacted_thinking" else "signature")
    return found if isinstance(found, str) else ""


def signatures_in(document: Document) -> list[str]:
    """The short hashes of all signatures in a request's history, in order, without doubles."""
    return _hashes(
        block
        for message in messages_of(document)
        if role(message) == "assistant"
        for block in blocks_of(message)
    )


def strip_foreign(document: Document, is_foreign: Callable[[str], bool]) -> Document | None:
    """The document without thinking that its next reader would refuse, None if there is none.

    That is thinking without a signature, with one of this proxy's own, or with
    one whose short hash `is_foreign`. Where the last turn then no longer begins
    with thinking, and thinking is "enabled", it is switched off for this request.
    """

    def unwanted(block: Block) -> bool:
        signature = signature_of(block)
        return not signature or signature.startswith(MINTED) or is_foreign(short_hash(signature))

    stripped = drop_thinking(document, unwanted)
    return None if stripped is document else drop_unbacked_thinking(stripped)


class SignatureWatch:
    """The short hashes of the signatures in one stream, which comes in portions of whole events.

    Blocks follow each other, and each event of a block says its index. While the block that is
    open is no thinking and a portion speaks of no other, there is nothing to search for in it.
    """

    __slots__ = ("_thinking", "_unsigned")

    def __init__(self) -> None:
        self._thinking = False  # the open block is thinking
        self._unsigned = b""  # how the index of the open block is written, if it is not

    def feed(self, events: bytes) -> list[str]:
        index = _last_index(events)
        if not index or index == self._unsigned:
            return []  # nothing but pings and the end is without an index
        if not self._thinking and events.rfind(b'thinking"') < 0:
            self._unsigned = index
            return []
        start = events.rfind(_BLOCK_START)
        self._thinking = start < 0 or b'thinking"' in _line_at(events, start)
        self._unsigned = b"" if self._thinking else index
        return signatures_passing(events)


_BLOCK_START = b'"content_block_start"'
"""With its quotation marks: in a text that speaks of it they are escaped."""


def _line_at(events: bytes, at: int) -> bytes:
    return events[events.rfind(b"\n", 0, at) + 1 : events.find(b"\n", at)]


def _last_index(events: bytes) -> bytes:
    at = events.rfind(b'"index"')
    return events[at : events.find(b",", at)] if at >= 0 else b""


def signatures_passing(event_bytes: bytes) -> list[str]:
    """The short hashes of the signatures in whole events of a stream, or in a whole message.

    Costs two substring tests where there is no thinking, and JSON only for the
    events that carry a signature. Bytes that are neither yield nothing.
    """
    # From behind, because that is faster.
    if event_bytes.rfind(b"signature") < 0 and event_bytes.rfind(b"redacted_thinking") < 0:
        return []
    if event_bytes.lstrip()[:1] == b"{":
        message = _decoded(event_bytes)
        return _hashes(blocks_of(message) if isinstance(message, dict) else ())
    return _hashes(_signed_parts(event_bytes))


def _signed_parts(events: bytes) -> Iterator[Block]:
    for line in events.splitlines():
        if not line.startswith(_DATA) or not any(telltale in line for telltale in _TELLTALES):
            continue
        event = _decoded(line[len(_DATA) :])
        if not isinstance(event, dict):
            continue
        for part in (event.get("delta"), event.get("content_block")):
            if isinstance(part, dict):
                yield part


def _hashes(parts: Any) -> list[str]:
    signatures = (
        signature_of(part) for part in parts if is_thinking(part) or kind(part) == "signature_delta"
    )
    return list(dict.fromkeys(short_hash(signature) for signature in signatures if signature))


def _decoded(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
