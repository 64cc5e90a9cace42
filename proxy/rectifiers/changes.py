"""What a repair changed: places and sizes, never content. Fit for the request log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import islice
from typing import Any, Literal

import orjson

from proxy.rectifiers.base import Draft

MAX_CHANGES = 20
MAX_DEPTH = 12

Op = Literal["removed", "added", "changed"]


@dataclass(frozen=True, slots=True)
class Change:
    """One changed place. `bytes`: JSON size of what was removed, else of what stands there now."""

    path: str
    op: Op
    bytes: int

    def as_json(self) -> dict[str, str | int]:
        return {"path": self.path, "op": self.op, "bytes": self.bytes}


def changes(before: Draft, after: Draft) -> Iterator[Change]:
    """What differs between two drafts: the body, `headers`, `profile`.

    Unchanged parts are shared between the drafts, so they cost an identity test.
    """
    yield from _differences("", before.document, after.document, 0)
    if before.headers is not after.headers:
        yield from _differences("headers", _header_lists(before), _header_lists(after), 0)
    yield from _differences("profile", before.profile, after.profile, 0)


def first_changes(before: Draft, after: Draft) -> tuple[Change, ...]:
    """The first of them: enough to see what happened."""
    return tuple(islice(changes(before, after), MAX_CHANGES))


def _header_lists(draft: Draft) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in draft.headers:
        found.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return found


def _differences(path: str, before: Any, after: Any, depth: int) -> Iterator[Change]:
    if before is after:
        return
    if depth < MAX_DEPTH and isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in before:
            if key not in after:
                yield Change(_join(path, key), "removed", _size(before[key]))
            else:
                yield from _differences(_join(path, key), before[key], after[key], depth + 1)
        for key in after:
            if key not in before:
                yield Change(_join(path, key), "added", _size(after[key]))
    elif depth < MAX_DEPTH and isinstance(before, list) and isinstance(after, list):
        yield from _list_differences(path, before, after, depth)
    elif before != after:
        yield Change(path, "changed", _size(after))


def _list_differences(
    path: str, before: list[Any], after: list[Any], depth: int
) -> Iterator[Change]:
    """Items are told apart by identity: what was not mended is the same object."""
    if _in_place(before, after):
        for i, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _differences(f"{path}.{i}", old, new, depth + 1)
        return
    matcher = SequenceMatcher(None, list(map(id, before)), list(map(id, after)), autojunk=False)
    for op, start, end, new_start, new_end in matcher.get_opcodes():
        if op == "equal":
            continue
        both = min(end - start, new_end - new_start)
        for i in range(both):
            yield from _differences(
                f"{path}.{start + i}", before[start + i], after[new_start + i], depth + 1
            )
        for i in range(start + both, end):
            yield Change(f"{path}.{i}", "removed", _size(before[i]))
        for i in range(new_start + both, new_end):
            yield Change(f"{path}.{i}", "added", _size(after[i]))


def _in_place(before: list[Any], after: list[Any]) -> bool:
    """Whether items were only replaced: none added, removed or moved. The usual case."""
    if len(before) != len(after):
        return False
    known = set(map(id, before))
    return all(a is b or id(a) not in known for a, b in zip(after, before, strict=True))


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _size(value: Any) -> int:
    try:
        return len(orjson.dumps(value))
    except TypeError:  # a lone surrogate, which some clients send
        return len(repr(value))
