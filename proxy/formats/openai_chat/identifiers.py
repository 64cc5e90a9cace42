"""Names and ids on both sides of the translation.

Outbound mappings are pure functions of the request, so that the same history
gives the same bytes on every turn and upstream prompt caches hit.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Container, Iterable, Mapping

from proxy.formats.openai_chat.profile import Profile

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LEGAL_NAME = re.compile(r"[a-zA-Z0-9_-]+\Z")
_ILLEGAL = re.compile(r"[^a-zA-Z0-9_-]")
_NUMBERED = re.compile(r"(.+)_[0-9]+\Z")
_MAX_TOOL_ID = 40
_MISTRAL_ID = re.compile(r"[a-zA-Z0-9]{9}\Z")
_HASH_CHARS = 8


def new_id(prefix: str) -> str:
    """A fresh id such as `msg_...`: 24 random base-62 characters."""
    return prefix + "".join(secrets.choice(_BASE62) for _ in range(24))


def digest(text: str, chars: int) -> str:
    """Hexadecimal characters of a SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:chars]


class ClientIds:
    """The tool ids that the client gets: legal, and not used before in the conversation.

    Some servers start again at `call_0` in every turn; clients take a repeated
    id for a call that they have already answered. Such a call gets a new id, and
    none with a number behind the old one: Claude Code (2.1.330) takes `call_0_2`
    for a part of the call `call_0`, if there is one, and drops its result.
    """

    __slots__ = ("_known", "_stems")

    def __init__(self, history: frozenset[str]) -> None:
        self._known = set(history) - {""}
        self._stems: set[str] | None = None  # what stands before a number at the end of known ids

    def claim(self, raw: object) -> str:
        """The client's id for an upstream's, which may be missing."""
        tool_id = _ILLEGAL.sub("_", raw) if isinstance(raw, str) else ""
        if not tool_id or self._is_mistakable(tool_id):
            tool_id = new_id("toolu_")
        self._known.add(tool_id)
        self._all_stems().add(_stem(tool_id))
        return tool_id

    def _is_mistakable(self, tool_id: str) -> bool:
        known = self._known
        return tool_id in known or _stem(tool_id) in known or tool_id in self._all_stems()

    def _all_stems(self) -> set[str]:
        if self._stems is None:
            self._stems = set(map(_stem, self._known))
        return self._stems


def _stem(tool_id: str) -> str:
    """The id before a number at its end, "" if it has none."""
    numbered = _NUMBERED.match(tool_id)
    return numbered.group(1) if numbered else ""


def unused(name: str, taken: Container[str]) -> str:
    """`name`, with the first suffix `_2`, `_3`, ... that makes it one of its own."""
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


class ToolIds:
    """Tool ids as a provider accepts them, by the profile's `tool_id_style`."""

    def __init__(self, style: str) -> None:
        self._style = style
        self._given: set[str] = set()

    def outbound(self, tool_id: str) -> str:
        """The id for one call; calls that differ must come with ids that differ."""
        if self._style == "alnum9":
            return self._nine_characters(tool_id)
        if self._style == "hash" or len(tool_id) > _MAX_TOOL_ID:
            return f"call_{digest(tool_id, 32)}"
        return tool_id

    def _nine_characters(self, tool_id: str) -> str:
        if _MISTRAL_ID.match(tool_id) and tool_id not in self._given:
            self._given.add(tool_id)
            return tool_id
        salt = 0
        while True:
            number = int(digest(f"{salt}:{tool_id}" if salt else tool_id, 16), 16)
            candidate = ""
            for _ in range(9):
                number, rest = divmod(number, 62)
                candidate += _BASE62[rest]
            if candidate not in self._given:
                self._given.add(candidate)
                return candidate
            salt += 1


class ToolNames:
    """Function names as OpenAI's API accepts them, and the way back.

    Legal names stay; illegal characters become `_`; what is too long, or would
    be mistaken for another tool, ends in a hash of its name.
    """

    def __init__(self, names: Iterable[str], profile: Profile) -> None:
        self._limit = profile.tool_name_max
        self._wire: dict[str, str] = {}
        self._taken: set[str] = set()
        illegal = []
        for name in names:
            if self._is_legal(name):
                self._wire[name] = name
                self._taken.add(name)
            else:
                illegal.append(name)
        for name in illegal:
            self.wire(name)

    def wire(self, name: str) -> str:
        """The name as the provider knows it."""
        known = self._wire.get(name)
        if known is None:
            known = self._wire[name] = self._map(name)
            self._taken.add(known)
        return known

    def reverse(self) -> Mapping[str, str]:
        """Wire name to the client's name, for the names that differ."""
        return {wire: name for name, wire in self._wire.items() if wire != name}

    def _is_legal(self, name: str) -> bool:
        return len(name) <= self._limit and _LEGAL_NAME.match(name) is not None

    def _map(self, name: str) -> str:
        if self._is_legal(name) and name not in self._taken:
            return name
        wire = _ILLEGAL.sub("_", name)
        if len(wire) > self._limit or wire in self._taken:
            kept = self._limit - _HASH_CHARS - 1
            wire = f"{wire[:kept]}_{digest(name, _HASH_CHARS)}"
        return wire
