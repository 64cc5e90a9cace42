"""The arguments of tool calls: JSON text that arrives in pieces and is not always whole."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

_OUTSIDE = re.compile(r'["{}\[\]]')
_INSIDE = re.compile(r'["\\]')
_CONTROL = re.compile(r"([\x00-\x1f])")
_FENCE = re.compile(r"\A```\w*\s*|\s*```\Z")
_ESCAPES = ("", "\\", "0", "00", "000", "0000")  # what may be missing of an escape sequence
_GAPS = (
    *("", "null", ":null", '"":null'),
    *(escape + end for escape in _ESCAPES for end in ('"', '":null')),
    *("rue", "ue", "e", "alse", "lse", "se", "ull", "ll", "l", "0"),
)
"""What may be missing where JSON was broken off: the rest of a string, a key, a word, a number."""
_CLOSERS = {"{": "}", "[": "]"}


class ArgumentScanner:
    """Follows JSON text piece by piece and knows when its object is complete.

    Looks at structure only (strings, brackets), each character once.
    """

    __slots__ = ("_escaped", "_in_string", "_stack", "complete", "is_object", "started")

    def __init__(self) -> None:
        self.started = False  # something else than white space has come
        self.is_object = False
        self.complete = False
        self._stack: list[str] = []
        self._in_string = False
        self._escaped = False

    def feed(self, text: str) -> str:
        """Reads on; returns `text` up to where the object ended, if it did.

        Raw line breaks and the like within strings, which JSON forbids and some models
        write, are escaped.
        """
        if self.complete:
            return ""
        if not self.started:
            stripped = text.lstrip()
            if not stripped:
                return text
            self.started = True
            self.is_object = stripped[0] == "{"
        if _CONTROL.search(text) is None:
            return self._scan(text)
        return "".join(map(self._piece, _CONTROL.split(text)))

    def missing_end(self, arguments: str) -> str:
        """What completes `arguments` (all that was fed) to JSON, "" if nothing simple does."""
        if self.complete:
            return ""
        closers = "".join(reversed(self._stack))
        for gap in _GAPS:
            if isinstance(_loads(arguments + gap + closers), dict):
                return gap + closers
        return ""

    def closing(self) -> str:
        """What ends the string and the brackets that are open: the best guess without the text."""
        escape = "\\" if self._escaped else ""
        quote = '"' if self._in_string else ""
        return escape + quote + "".join(reversed(self._stack))

    def _piece(self, text: str) -> str:
        """A text without control characters, or one such character."""
        if self.complete:
            return ""
        if not self._in_string or text >= " " or not text:
            return self._scan(text)
        escaped = json.dumps(text)[1:-1]
        if self._escaped:  # the backslash before it is out already
            self._escaped = False
            return escaped[1:]
        return escaped

    def _scan(self, text: str) -> str:
        position = 0
        while position < len(text):
            if self._escaped:
                self._escaped = False
                position += 1
                continue
            match = (_INSIDE if self._in_string else _OUTSIDE).search(text, position)
            if match is None:
                break
            position = match.end()
            if self._step(match.group()):
                return text[:position]
        return text

    def _step(self, char: str) -> bool:
        """One character of structure; whether it ended the object."""
        if char == "\\":
            self._escaped = True
        elif char == '"':
            self._in_string = not self._in_string
        elif char in _CLOSERS:
            self._stack.append(_CLOSERS[char])
        elif self._stack:
            self._stack.pop()
            self.complete = not self._stack and self.is_object
        return self.complete


def parse_arguments(raw: Any) -> dict[str, Any] | None:
    """The arguments of one call as an object, None if they are none that can be understood.

    Nothing at all is an empty object. JSON inside a JSON string is read too, and
    what is broken is repaired once, with care.
    """
    if isinstance(raw, dict):
        return raw
    if raw is None:
        return {}
    if not isinstance(raw, str):
        return None
    text = raw.strip()
    if not text:
        return {}
    value = _loads(text)
    if isinstance(value, str):
        value = {} if not value.strip() else _loads(value)
    if value is _BROKEN:
        value = _loads(repair(text))
    if value is None:
        return {}
    return value if isinstance(value, dict) else None


def repair(text: str) -> str:
    """Undoes what models do to JSON: code fences, trailing commas, raw newlines, a missing end."""
    out: list[str] = []
    stack: list[str] = []
    in_string = escaped = False
    for char in _FENCE.sub("", text):
        if in_string:
            out.append(json.dumps(char)[1:-1] if char < " " else char)
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
            continue
        if char in "}]":
            _drop_trailing_comma(out)
            if not stack or stack.pop() != char:
                return text
        out.append(char)
        if char == '"':
            in_string = True
        elif char in _CLOSERS:
            stack.append(_CLOSERS[char])
        elif char in "}]" and not stack:
            break  # whatever follows the value is no part of it
    if escaped:
        out.pop()
    if in_string:
        out.append('"')
    _drop_trailing_comma(out)
    return "".join(out) + "".join(reversed(stack))


def _drop_trailing_comma(out: list[str]) -> None:
    while out and out[-1].isspace():
        out.pop()
    if out and out[-1] == ",":
        out.pop()


_BROKEN: Any = object()


def _loads(text: str) -> Any:
    try:
        return orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        pass
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _BROKEN
