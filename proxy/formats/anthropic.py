"""The Anthropic Messages API: relayed as bytes, in both directions.

Nothing is decoded and encoded again. What the relay has to know (whether
content has begun, token usage, errors) is read from the bytes as they pass.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import orjson

from providers.endpoints import anthropic_url
from providers.routing import Target
from proxy.call import COUNT_TOKENS, MESSAGES, Call
from proxy.errors import InvalidReply, UpstreamRefused, error_type
from proxy.formats.headers import CREDENTIALS, own_auth_headers, to_client, to_upstream
from proxy.formats.splice import replace_string
from proxy.sse import whole_events
from proxy.usage import Usage
from proxy.wire import ErrorReply, HeaderPairs, MessageReply, UpstreamRequest, without

MAX_HELD_BYTES = 16 * 1024 * 1024
SETTLE_SECONDS = 1.0
"""How long a stream may stay open after its last event."""

MAX_ERROR_TEXT = 4000
"""More than is kept: what is cut off before it is redacted may end in half a secret."""

_OVERFLOW = re.compile(r"prompt is too long|input is too long", re.IGNORECASE)
_CONTENT_EVENTS = frozenset({"content_block_start", "message_delta"})


class AnthropicFormat:
    """Calls go out as they came in, but for credentials and a mapped model."""

    def translate(self, call: Call, target: Target) -> tuple[UpstreamRequest, AnthropicTranslation]:
        provider = target.provider
        headers = to_upstream(call.headers)
        if not provider.uses_client_credentials:
            own = own_auth_headers(provider)
            replaced = CREDENTIALS | {name for name, _ in own}
            headers = [*without(headers, replaced), *own]
        elif provider.extra_headers:
            extra = [(name.encode(), value.encode()) for name, value in provider.extra_headers]
            headers = [*without(headers, frozenset(name for name, _ in extra)), *extra]
        body = call.body
        if call.model and target.model != call.model:
            body = replace_string(body, "model", target.model)
        url = anthropic_url(provider.base_url, call.path, call.query)
        request = UpstreamRequest(call.method, url, headers, body)
        return request, AnthropicTranslation(call.path)


class _Head(msgspec.Struct):
    """What is read of a whole reply; everything else is validated and skipped."""

    type: Any = None
    usage: Any = None
    error: Any = None
    input_tokens: Any = None


_decode_head = msgspec.json.Decoder(_Head).decode


def _read_head(body: bytes) -> _Head:
    """Raises `ValueError`. Lone surrogates are as welcome in replies as in requests."""
    try:
        return _decode_head(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        document = json.loads(body.decode(errors="replace"))
    except RecursionError:
        document = None
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    return _Head(**{name: document.get(name) for name in _Head.__struct_fields__})


class AnthropicTranslation:
    """The way back of one attempt at `path`: nothing is translated, usage is noted."""

    def __init__(self, path: str) -> None:
        self.usage = Usage()
        self.dropped: Mapping[str, int] = {}
        self._path = path

    def response_headers(self, headers: HeaderPairs) -> HeaderPairs:
        return to_client(headers)

    def open_stream(self) -> AnthropicStream:
        return AnthropicStream(self.usage)

    def read_message(self, body: bytes) -> MessageReply:
        try:
            message = _read_head(body)
        except ValueError:
            raise InvalidReply("the reply is not a JSON object") from None
        if message.type == "error" or (message.type is None and message.error):
            raise UpstreamRefused(error_inside_success(body))
        if self._path == MESSAGES and message.type != "message":
            raise InvalidReply("the reply is not a message")
        if self._path == COUNT_TOKENS and not isinstance(message.input_tokens, int):
            raise InvalidReply("the reply is not a token count")
        self.usage.update(message.usage)
        return MessageReply(body)

    def read_error(self, status: int, headers: HeaderPairs, body: bytes) -> ErrorReply:
        return read_error(status, to_client(headers), body)

    def replay(self, message: MessageReply) -> bytes:
        raise InvalidReply("a whole message came where a stream was asked for")


class AnthropicStream:
    """Passes whole events on as they are; the unfinished rest waits for its end.

    So a stream that is aborted always ends behind a whole event.
    """

    pings: bool = False

    def __init__(self, usage: Usage) -> None:
        self.usage = usage
        self.content_begun = False
        self.complete = False
        self.error: ErrorReply | None = None
        self._rest = bytearray()
        self._seam = b""

    @property
    def quiet_end(self) -> float | None:
        return SETTLE_SECONDS if self.complete else None

    def feed(self, data: bytes) -> bytes:
        events = self._whole_events(data)
        if not events and len(self._rest) > MAX_HELD_BYTES:
            raise InvalidReply("an event of the stream is larger than 16 MB")
        self._read(events)
        return events

    def _whole_events(self, data: bytes) -> bytes:
        """What `data` completes. Only its own bytes are searched: events may be large."""
        if not self._rest and data.endswith(b"\n\n"):
            self._seam = data[-3:]
            return data
        window = self._seam + data
        self._seam = window[-3:]
        self._rest += data
        found = whole_events(window)
        end = max(0, len(self._rest) - len(window) + found) if found else 0
        events = bytes(self._rest[:end])
        del self._rest[:end]
        return events

    def end(self) -> bytes:
        rest = bytes(self._rest)
        self._rest.clear()
        self._read(rest)
        if not self.content_begun and not self.error and rest.lstrip().startswith(b"{"):
            self._read_plain_json(rest)
        if self.error and rest:
            # Clients drop an event that lacks its blank line, and would miss the error.
            return rest + b"\n\n"
        return rest if self.complete else b""

    def _read(self, events: bytes) -> None:
        # After content has begun only the last events matter, and they are few.
        if self.content_begun and b'"message_' not in events and b'"error"' not in events:
            return
        marks = _LAST_MARKS if self.content_begun else _FIRST_MARKS
        for payload in _payloads(events, marks):
            kind = payload.get("type")
            if kind == "message_start":
                message = payload.get("message")
                self.usage.update(message.get("usage") if isinstance(message, dict) else None)
            elif kind == "message_delta":
                self.usage.update(payload.get("usage"))
            elif kind == "message_stop":
                self.complete = True
            elif kind == "error" and not self.error:
                self.error = error_inside_success(orjson.dumps(payload))
            self.content_begun = self.content_begun or kind in _CONTENT_EVENTS

    def _read_plain_json(self, body: bytes) -> None:
        """An error that came as plain JSON where a stream was asked for."""
        try:
            if _read_head(body).error:
                self.error = error_inside_success(body)
        except ValueError:
            pass


_LAST_MARKS = (b'"message_', b'"error"')
_FIRST_MARKS = (*_LAST_MARKS, b'"content_block_start"')


def _payloads(events: bytes, marks: tuple[bytes, ...]) -> Iterator[dict[str, Any]]:
    """The payloads of the events with one of `marks`; all others are not even looked at."""
    for start in sorted({_line_start(events, at) for at in _places(events, marks)}):
        line = events[start : _line_end(events, start)]
        if line.startswith(b"data:"):
            try:
                payload = orjson.loads(line[5:])
            except orjson.JSONDecodeError:
                continue
            if isinstance(payload, dict):
                yield payload


def _places(events: bytes, marks: tuple[bytes, ...]) -> Iterator[int]:
    for mark in marks:
        at = events.find(mark)
        while at >= 0:
            yield at
            at = events.find(mark, at + 1)


def _line_start(events: bytes, at: int) -> int:
    return max(events.rfind(b"\n", 0, at), events.rfind(b"\r", 0, at)) + 1


def _line_end(events: bytes, at: int) -> int:
    ends = [end for end in (events.find(b"\n", at), events.find(b"\r", at)) if end >= 0]
    return min(ends, default=len(events))


def error_inside_success(body: bytes) -> ErrorReply:
    """The error that a 200 carried, with the status that belongs to its type."""
    reply = read_error(200, (), body)
    status = _STATUS_OF_TYPE.get(reply.type, 500)
    headers = [(b"content-type", b"application/json")]
    return ErrorReply(
        status,
        headers,
        body,
        reply.type or error_type(status),
        reply.message,
        status,
        reply.context_overflow,
        reply.rate_limited,
    )


_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def read_error(status: int, headers: HeaderPairs, body: bytes) -> ErrorReply:
    """An error reply as it is, with what it says read out for the log."""
    kind, message = "", ""
    try:
        error = _read_head(body).error
    except ValueError:
        message = body[:MAX_ERROR_TEXT].decode("utf-8", "replace")
    else:
        if isinstance(error, dict):
            kind, message = str(error.get("type") or ""), str(error.get("message") or "")
        elif isinstance(error, str):
            message = error
    overflow = status in (200, 400, 413) and bool(_OVERFLOW.search(message))
    return ErrorReply(
        status, headers, body, kind, message, status, overflow, kind == "rate_limit_error"
    )


ANTHROPIC = AnthropicFormat()
