"""Ids of tool calls: each its own, and of legal characters only."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from proxy.rectifiers.document import Block, Document, blocks_of, kind, listed, map_blocks, put
from proxy.rectifiers.tool_pairing import segments

_ILLEGAL = re.compile(r"[^a-zA-Z0-9_-]")
_ID_KEYS = {"tool_use": "id", "tool_result": "tool_use_id"}


def unique_ids(document: Document) -> Document:
    """The document with every tool call under an id of its own.

    An exact copy within one turn goes, with its result; a call that only shares
    an id is renamed, and so is its result, found by position.
    """
    seen: set[str] = set()
    fates: dict[int, str | None] = {}
    for segment in segments(listed(document, "messages")):
        by_id: dict[str, list[str | None]] = {}
        kept: list[Block] = []
        for call in segment.calls():
            fate = _fate(call, kept, seen)
            fates[id(call)] = fate
            by_id.setdefault(str(call.get("id")), []).append(fate)
            if fate is not None:
                kept.append(call)
                seen.add(fate)
        for result in segment.results():
            if queue := by_id.get(str(result.get("tool_use_id"))):
                fates[id(result)] = queue.pop(0)
    return _renamed(document, lambda block: fates.get(id(block), _id_of(block)))


def _fate(call: Block, kept: list[Block], seen: set[str]) -> str | None:
    """The id that a call goes by from now on, None if it is a copy."""
    name = str(call.get("id"))
    if any(_identity(call) == _identity(other) for other in kept):
        return None
    return _free(name, seen)


def _identity(call: Block) -> tuple[Any, Any, Any]:
    return call.get("id"), call.get("name"), call.get("input")


def _free(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def legal_ids(document: Document) -> Document:
    """The document with tool ids of letters, digits, `_` and `-` only, still all different."""
    clean: dict[str, str] = {}

    def rename(block: Block) -> str:
        name = _id_of(block)
        if name not in clean:
            clean[name] = _free(_ILLEGAL.sub("_", name) or "toolu_unnamed", taken)
            taken.add(clean[name])
        return clean[name]

    for message in listed(document, "messages"):  # legal ids keep their name whatever comes first
        for block in blocks_of(message) if isinstance(message, Mapping) else ():
            if kind(block) in _ID_KEYS and _id_of(block) and not _ILLEGAL.search(_id_of(block)):
                clean[_id_of(block)] = _id_of(block)
    taken = set(clean)
    return _renamed(document, rename)


def _id_of(block: Block) -> str:
    return str(block.get(_ID_KEYS[kind(block)], ""))


def _renamed(document: Document, rename: Callable[[Block], str | None]) -> Document:
    """The document with each call and result under the id that `rename` gives; None drops it."""

    def change(block: Block) -> Block | None:
        key = _ID_KEYS.get(kind(block))
        if key is None:
            return block
        name = rename(block)
        if name is None:
            return None
        return block if block.get(key) == name else put(block, key, name)

    return map_blocks(document, change)
