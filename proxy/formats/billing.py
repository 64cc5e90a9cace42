"""The attribution header that Claude Code puts in front of its system prompt.

It reads `x-anthropic-billing-header: cc_version=...; cc_entrypoint=...; cch=...;`
and means something to api.anthropic.com alone, which takes it out before the
model sees it (https://code.claude.com/docs/en/llm-gateway-protocol). To any
other model it is prompt text, and a changing `cch` spoils its prompt cache.

Only the very start of the system prompt is looked at: text that merely quotes
the header stays as it is. Nothing here changes its argument; what needs no
change is returned as the same object.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import orjson

from proxy.formats.splice import literal_at, replace_literal, value_spans

PREFIX = "x-anthropic-billing-header:"
_LITERAL = b'"' + PREFIX.encode()

_PAIR = r"[ \t]*[A-Za-z_][\w.-]*=[^;\s]*(?:;|(?=[\r\n]|\Z))"
_CCH_WITHOUT_END = r"[ \t]*cch=[^;\s]*(?=\s|\Z)"
_HEADER = re.compile(rf"{re.escape(PREFIX)}(?:{_PAIR}|{_CCH_WITHOUT_END})+")
_CCH = re.compile(r"(?<![\w.-])cch=[^;\s]*;?")


class _Head(msgspec.Struct):
    system: msgspec.Raw = msgspec.Raw(b"null")


_decode_head = msgspec.json.Decoder(_Head).decode


def strip_header(text: str) -> str:
    """`text` without a leading billing header and the white space behind it."""
    match = _HEADER.match(text) if text.startswith(PREFIX) else None
    return text[match.end() :].lstrip() if match else text


def strip_cch(text: str) -> str:
    """`text` without the `cch=...;` pairs of a leading billing header."""
    match = _HEADER.match(text) if text.startswith(PREFIX) else None
    bare = _CCH.sub("", match[0]) if match else ""
    return text if match is None or bare == match[0] else bare + text[match.end() :]


def without_billing_header(system: Any) -> Any:
    """A system prompt (string or list of blocks) without the header; an emptied block goes too."""
    return _rewrite_start(system, strip_header)


def without_cch(system: Any) -> Any:
    """A system prompt (string or list of blocks) whose billing header has lost its `cch`."""
    return _rewrite_start(system, strip_cch)


def may_have_header(body: bytes) -> bool:
    """Whether a request's body quotes the header at the start of a text anywhere."""
    return body.rfind(_LITERAL) >= 0  # from behind: it is faster, and the system prompt comes late


def strip_cch_in_body(body: bytes) -> bytes:
    """A request body whose system prompt begins with the header, without the header's `cch`.

    Every other byte stays as it is; so does all of it where there is nothing to do.
    """
    try:
        raw = bytes(_decode_head(body).system)
        stands_once = body.find(_LITERAL) == body.rfind(_LITERAL)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        stands_once = False
    if not stands_once:
        return _strip_cch_wherever(body)
    system = orjson.loads(raw) if _LITERAL in raw else None
    if without_cch(system) is system:
        return body
    at = body.rfind(_LITERAL)
    return replace_literal(body, at, strip_cch(literal_at(body, at)))


def _strip_cch_wherever(body: bytes) -> bytes:
    """The same, token by token: the header is quoted more than once, or the JSON is odd."""
    for start, end in value_spans(body, "system"):
        at = body.find(_LITERAL, start, end)
        if at < 0:
            continue
        system = orjson.loads(body[start:end])
        if without_cch(system) is system:
            continue
        return replace_literal(body, at, strip_cch(literal_at(body, at)))
    return body


def _rewrite_start(system: Any, rewrite: Callable[[str], str]) -> Any:
    if isinstance(system, str):
        return rewrite(system)
    if not isinstance(system, list) or not system:
        return system
    first = system[0]
    text = first.get("text") if isinstance(first, dict) else first
    if not isinstance(text, str):
        return system
    rewritten = rewrite(text)
    if rewritten is text:
        return system
    if not rewritten:
        return system[1:]
    return [{**first, "text": rewritten} if isinstance(first, dict) else rewritten, *system[1:]]
