"""What a provider said when it reached a limit: kept with the limit, to be said again.

While the limit lasts the provider is not asked. If everybody else fails, the client is to hear
what it would have heard without the proxy: Claude Code knows from it when to go on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import orjson

from providers.health import HealthRow
from proxy.formats.anthropic import read_error
from proxy.history.kept_headers import is_kept
from proxy.redaction import redact
from proxy.wire import ErrorReply

MAX_LENGTH = 4000
"""Longer replies are not kept."""

_COUNTED_DOWN = (b"retry-after", b"retry-after-ms")


def packed(reply: ErrorReply, secrets: Iterable[str]) -> str:
    """A reply as text; "" for one that holds a secret, or is too long, or is no text."""
    try:
        body = reply.body.decode()
    except UnicodeDecodeError:
        return ""
    if redact(body, secrets) != body:
        return ""
    headers = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in reply.headers
        if is_kept(name)
    ]
    text = orjson.dumps({"status": reply.status, "headers": headers, "body": body}).decode()
    return text if len(text) <= MAX_LENGTH else ""


def said_again(closed: Sequence[HealthRow], now: float) -> ErrorReply | None:
    """What the provider said when it was closed, None where that was not kept.

    Of several limits the one that ends last counts.
    """
    rows = sorted((row for row in closed if row.reply), key=lambda row: row.until or now)
    return _unpacked(rows[-1].reply, (rows[-1].until or now) - now) if rows else None


def _unpacked(text: str, seconds_left: float) -> ErrorReply | None:
    try:
        kept = orjson.loads(text)
        headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in kept["headers"]]
        status, body = int(kept["status"]), kept["body"].encode()
    except (ValueError, LookupError, TypeError, AttributeError):
        return None  # a row that somebody has edited
    told = any(name == b"retry-after" for name, _ in headers)
    headers = [pair for pair in headers if pair[0] not in _COUNTED_DOWN]
    if told:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(seconds_left))))
    return read_error(status, headers, body)
