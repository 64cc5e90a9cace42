"""What an upstream said, wherever in its reply it said it.

Relays wrap the refusal of the provider behind them: as JSON inside a message,
under `upstream_error` or `metadata.raw`, as a list of validation errors. All of
it is read, one line a statement, without quotes, so that one pattern fits every
spelling. Keys that echo the request (`input` of a validation error,
`failed_generation`) are not read: a prompt that quotes a refusal is none.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import orjson

from proxy.wire import ErrorReply

MAX_BODY = 65_536
MAX_LINE = 4_000
MAX_LINES = 60
MAX_DEPTH = 8

_SPOKEN = frozenset(
    {
        "base_resp", "cause", "code", "description", "detail", "details", "error", "errors",
        "fieldViolations", "inner_error", "innererror", "last_error", "message", "metadata", "msg",
        "previous_errors", "raw", "reason", "status_msg", "upstream_error",
    }
)  # fmt: skip
_QUOTES = str.maketrans("", "", "\"'`\\“”‘’")
_ECHO = re.compile(r"\binput_value=.*?(?=, input_type=|$)|['\"]input['\"]: [^\n]*", re.DOTALL)
"""What a validator quotes of the request, where that is not a key but a part of the text."""
_SPACE = re.compile(r"(?:\s|\\[nrt])+")


def heard(error: ErrorReply) -> str:
    """Every statement of a refusal, one a line, its quotes, backticks and line breaks removed."""
    return _heard(error.message[:MAX_BODY], error.body[:MAX_BODY])


@lru_cache(maxsize=8)  # every repair asks, one refusal after the other
def _heard(message: str, body: bytes) -> str:
    lines: dict[str, None] = {}
    for statement in (*_statements(message, 0), *_statements(_decoded(body), 0)):
        line = _SPACE.sub(" ", statement).translate(_QUOTES).strip()[:MAX_LINE]
        if line:
            lines[line] = None
        if len(lines) == MAX_LINES:
            break
    return "\n".join(lines)


def _decoded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace")


def _statements(value: Any, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        return
    if isinstance(value, str):
        yield from _text(value, depth)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _statements(item, depth + 1)
    elif isinstance(value, dict):
        if isinstance(value.get("loc"), list | tuple) and isinstance(value.get("msg"), str):
            yield _located(value["loc"], value["msg"])
            return
        for key, item in value.items():
            if key in _SPOKEN:
                yield from _statements(item, depth + 1)


def _text(value: str, depth: int) -> Iterator[str]:
    if value.lstrip()[:1] in ("{", "["):
        try:
            nested = _structure(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            pass
        else:
            yield from _statements(nested, depth + 1)
            return
    yield _ECHO.sub("", value)


def _structure(value: str) -> Any:
    """JSON, or a list as Python writes it: vLLM puts those of FastAPI into its messages."""
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return ast.literal_eval(value.strip())


def _located(location: Sequence[Any], message: str) -> str:
    """A validation error of FastAPI in the words of Anthropic's: `path.to.field: message`."""
    path = [str(part) for part in location if part != "body"]
    return f"{'.'.join(path)}: {message}"
