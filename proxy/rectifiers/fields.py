"""Deleting fields by the dotted paths that APIs name in their refusals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.rectifiers.document import Document, same_or, without

PROTECTED = frozenset(
    {
        "content", "data", "id", "input", "input_schema", "max_tokens", "messages", "model", "name",
        "role", "signature", "source", "stream", "text", "thinking", "tool_use_id", "tools", "type",
    }
)  # fmt: skip
"""What a request cannot do without: never deleted, whatever an upstream says."""
OPAQUE = frozenset({"input", "input_schema"})
"""The client's own data: nothing inside is touched."""
ANY = "*"


def general(path: str) -> str:
    """A path with every index as `*`: `tools.3.custom.x` becomes `tools.*.custom.x`."""
    return ".".join(ANY if part.isdigit() else part for part in path.split("."))


def may_delete(path: str) -> bool:
    """Whether a path names something that a request can do without."""
    parts = general(path).split(".")
    if parts[-1] in PROTECTED or parts[-1] == ANY or path == "system":
        return False
    return not OPAQUE.intersection(parts)


def delete_field(document: Document, path: str) -> Document:
    """The document without a field, in every object of the same kind.

    Indices stand for every index. A part that names no key is the type of a
    block or tool (`tools.3.custom.defer_loading`). A field inside
    `cache_control` is deleted from all of them. An object left empty goes.
    """
    if not may_delete(path):
        return document
    parts = general(path).split(".")
    if "cache_control" in parts[:-1]:
        inside = parts[parts.index("cache_control") + 1 :]
        unmarked: Document = _everywhere(document, "cache_control", inside)
        return unmarked
    after: Document = _delete(document, parts, lenient=False)
    if after is document:
        after = _delete(document, parts, lenient=True)
    return after


def _delete(node: Any, parts: list[str], *, lenient: bool) -> Any:
    """`lenient`: a part that is no key is skipped below a list, even if it is not the type."""
    head, rest = parts[0], parts[1:]
    if isinstance(node, list):
        if head != ANY or not rest:
            return node
        return same_or(node, [_delete_below(item, rest, lenient) for item in node])
    if not isinstance(node, Mapping):
        return node
    if not rest:
        return without(node, head)
    if node.get("type") == head:
        after = _delete(node, rest, lenient=lenient)
        if after is not node:
            return after
    if head not in node:
        return node
    child = _delete(node[head], rest, lenient=lenient)
    if child is node[head]:
        return node
    return {**node, head: child} if child else without(node, head)


def _delete_below(item: Any, parts: list[str], lenient: bool) -> Any:
    """The same for an item of a list, whose type may be named in between. A tool without a type
    is a custom one."""
    after = _delete(item, parts, lenient=lenient)
    if after is not item or not isinstance(item, Mapping) or len(parts) < 2:
        return after
    if lenient or item.get("type", "custom") == parts[0]:
        return _delete(item, parts[1:], lenient=lenient)
    return item


def _everywhere(node: Any, key: str, inside: list[str]) -> Any:
    if isinstance(node, list):
        return same_or(node, [_everywhere(item, key, inside) for item in node])
    if not isinstance(node, Mapping):
        return node
    changed: dict[str, Any] = {}
    for name, value in node.items():
        if name in OPAQUE:
            continue
        after = (
            _delete(value, inside, lenient=True) if name == key else _everywhere(value, key, inside)
        )
        if after is not value:
            changed[name] = after
    return {**node, **changed} if changed else node
