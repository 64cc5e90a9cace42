"""Changes one top-level value of a JSON object and leaves every other byte alone."""

from __future__ import annotations

import json
import re

import orjson

_ESCAPED_LETTER = b"\\u00"
"""What a key would contain that is written with escapes."""

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]:,]|[^\s"{}\[\]:,]+', re.DOTALL)


def replace_string(body: bytes, key: str, value: str) -> bytes:
    """`body` with the value of the top-level `key` replaced, wherever it is given.

    Numbers, escapes and white space elsewhere stay as they are. A body without
    the key is returned as it is; `body` has to be a JSON object.
    """
    new = orjson.dumps(value)
    pieces: list[bytes] = []
    end = 0
    for start, stop in value_spans(body, key):
        pieces += [body[end:start], new]
        end = stop
    return b"".join([*pieces, body[end:]])


def value_spans(body: bytes, key: str) -> list[tuple[int, int]]:
    """Where the values of a top-level key are. Decoders take the last one; all are found."""
    plain, spans = b'"%s"' % key.encode(), []
    # Nearly always the key stands there once, in front, and what follows need not be read.
    is_only_one = body.count(plain) == 1 and _ESCAPED_LETTER not in body
    depth, name, start = 0, b"", -1
    for token in _TOKEN.finditer(body):
        first = body[token.start()]
        if first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
        if depth == 1 and start < 0:
            if first == 0x22:  # a quote: a key, as values are stepped over below
                name = token[0]
            elif first == 0x3A:  # a colon
                start = token.end()
        elif start >= 0 and (depth == 0 or (depth == 1 and first == 0x2C)):  # a comma, or the end
            if name == plain or (b"\\" in name and json.loads(name) == key):
                raw = body[start : token.start()]
                left = len(raw) - len(raw.lstrip())
                spans.append((start + left, start + len(raw.rstrip())))
                if is_only_one:
                    break
            start = -1
    return spans


def replace_literal(body: bytes, start: int, value: str) -> bytes:
    """`body` with the string literal that begins at `start` replaced by `value`."""
    literal = _TOKEN.match(body, start)
    end = literal.end() if literal else start
    return b"".join((body[:start], orjson.dumps(value), body[end:]))


def literal_at(body: bytes, start: int) -> str:
    """The string whose literal begins at `start`."""
    literal = _TOKEN.match(body, start)
    value = orjson.loads(literal[0]) if literal else ""
    return value if isinstance(value, str) else ""
