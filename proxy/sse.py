"""Server-sent events: bytes to events and back.

https://html.spec.whatwg.org/multipage/server-sent-events.html, read leniently:
some servers leave out the blank line between events, or send an error as a
bare line of JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import orjson

MAX_BUFFERED = 16 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class Payload(NamedTuple):
    """The decoded JSON object of one event; `event` is the event's name, "" without one."""

    event: str
    document: dict[str, Any]


DONE: Final = Payload("done", {})
"""The end mark `[DONE]`. Compare by identity."""

GARBAGE: Final = Payload("garbage", {})
"""Stands for an event that is no JSON. Compare by identity."""


class BufferLimitExceeded(Exception):
    """A line or an event is longer than anything sensible."""


def frame(event_type: str, payload: Mapping[str, Any]) -> bytes:
    """One event for an Anthropic client: its name, and one line of JSON."""
    return b"event: %b\ndata: %b\n\n" % (event_type.encode(), orjson.dumps(payload))


def whole_events(buffer: bytes) -> int:
    """The index just past the last whole event in `buffer`, 0 if there is none.

    An event ends with a blank line. Lines end with LF, CRLF or CR.
    """
    if b"\r" not in buffer:
        return _past(buffer, b"\n\n")
    end = max(_past(buffer, pair) for pair in (b"\n\n", b"\n\r", b"\r\r"))
    if end and buffer[end - 1 : end + 1] == b"\r\n":
        end += 1
    return end


def _past(buffer: bytes, separator: bytes) -> int:
    index = buffer.rfind(separator)
    return index + len(separator) if index >= 0 else 0


class PayloadParser:
    """Incremental reader of a stream whose events carry JSON objects, as OpenAI's do.

    `feed` takes the bytes in any portions. A `data` line that is whole JSON by
    itself is delivered at once; others are joined up to the blank line. What is
    empty, `null` or no object is skipped; what is no JSON is told as `GARBAGE`.
    """

    __slots__ = ("_event", "_held", "_lines", "_partial", "_skip_lf", "_started")

    def __init__(self) -> None:
        self._partial: list[bytes] = []  # the line that has no end yet
        self._held = 0  # bytes in _partial and _lines
        self._lines: list[bytes] = []  # data lines that are no JSON by themselves
        self._event = ""
        self._skip_lf = False  # the last portion ended in CR: an LF at once belongs to it
        self._started = False

    def feed(self, data: bytes) -> list[Payload]:
        """The events that `data` completes. Raises `BufferLimitExceeded`."""
        if self._skip_lf and data:
            self._skip_lf = False
            data = data.removeprefix(b"\n")
        if not data:
            return []
        lines = data.splitlines()
        ends_open = not data.endswith((b"\n", b"\r"))
        self._skip_lf = data.endswith(b"\r")
        tail = lines.pop() if ends_open else b""
        if lines and self._partial:
            lines[0] = b"".join((*self._partial, lines[0]))
            self._partial.clear()
        payloads = self._read(lines)
        if tail:
            self._partial.append(tail)
        self._check_bound(len(tail))
        return payloads

    def finish(self) -> list[Payload]:
        """The stream has ended: what an unterminated rest still says."""
        rest = b"".join(self._partial)
        self._partial.clear()
        return self._read([rest, b""])

    def _check_bound(self, added: int) -> None:
        if not self._partial and not self._lines:
            self._held = 0
            return
        self._held += added
        if self._held > MAX_BUFFERED:
            raise BufferLimitExceeded("a line of the stream exceeds 16 MB")

    def _read(self, lines: Iterable[bytes]) -> list[Payload]:
        payloads: list[Payload] = []
        for line in lines:
            if not self._started:
                self._started = True
                line = line.removeprefix(_BOM)
            if line.startswith(b"data:"):
                self._read_data(line[5:], payloads)
            elif not line:
                self._end_event(payloads)
            elif line.startswith(b"event:"):
                self._event = line[6:].strip().decode("utf-8", "replace")
            elif line.startswith(b"{"):
                self._bare_json(line, payloads)
        return payloads

    def _read_data(self, data: bytes, payloads: list[Payload]) -> None:
        value = data.strip()
        if value == b"[DONE]":
            self._abandon_lines(payloads)
            payloads.append(DONE)
            return
        if value.startswith(b"{"):
            document = loads(value)
            if isinstance(document, dict) and (not self._lines or _is_whole_chunk(document)):
                self._abandon_lines(payloads)
                payloads.append(Payload(self._event, document))
                self._event = ""
                return
        if (value and value != b"null") or self._lines:
            self._lines.append(data.removeprefix(b" "))
            self._held += len(data)

    def _bare_json(self, line: bytes, payloads: list[Payload]) -> None:
        """A line without a field name: some servers break off with a plain error object."""
        document = loads(line)
        if _is_whole_chunk(document):
            payloads.append(Payload(self._event, document))

    def _end_event(self, payloads: list[Payload]) -> None:
        event, self._event = self._event, ""
        if not self._lines:
            return
        text = b"\n".join(self._lines)
        self._lines.clear()
        value = loads(text)
        if isinstance(value, dict):
            payloads.append(Payload(event, value))
        elif event == "error":  # in plain words, or as a JSON string of them
            words = value if isinstance(value, str) else text.decode("utf-8", "replace")
            payloads.append(Payload(event, {"error": words}))
        elif value is _UNPARSEABLE:
            payloads.append(GARBAGE)

    def _abandon_lines(self, payloads: list[Payload]) -> None:
        """What is held is not part of what came next: it never became JSON."""
        if self._lines:
            self._lines.clear()
            payloads.append(GARBAGE)


_UNPARSEABLE: Final = object()
_CHUNK_KEYS = ("choices", "error")


def _is_whole_chunk(document: object) -> bool:
    return isinstance(document, dict) and any(key in document for key in _CHUNK_KEYS)


def loads(data: bytes) -> Any:
    """JSON, or a private mark if it is none.

    orjson refuses lone surrogates (half an emoji, its other half in the next
    event), the standard library reads them.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        if b"\\u" not in data and data.isascii():
            return _UNPARSEABLE
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return _UNPARSEABLE
