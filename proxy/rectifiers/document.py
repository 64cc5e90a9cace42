"""Changing a decoded request without changing it: copies along the changed path only.

Every function returns the very object it was given when there is nothing to
change, so that "nothing was mended" is an identity test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Document = Mapping[str, Any]
Block = Mapping[str, Any]
Message = Mapping[str, Any]


def put(mapping: Mapping[str, Any], key: str, value: Any) -> Mapping[str, Any]:
    """The mapping with one key set; a known key keeps its place."""
    if key in mapping and mapping[key] is value:
        return mapping
    return {**mapping, key: value}


def without(mapping: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """The mapping without some keys."""
    if not any(key in mapping for key in keys):
        return mapping
    return {key: value for key, value in mapping.items() if key not in keys}


def rewrite(items: list[Any], change: Callable[[Any], Any]) -> list[Any]:
    """The list with `change` applied to each item: another item, None to drop it, a list to put
    several in its place."""
    out: list[Any] = []
    for item in items:
        changed = change(item)
        if isinstance(changed, list):
            out.extend(changed)
        elif changed is not None:
            out.append(changed)
    return same_or(items, out)


def same_or(before: list[Any], after: list[Any]) -> list[Any]:
    """`before` if `after` holds the very same items."""
    if len(before) == len(after) and all(a is b for a, b in zip(before, after, strict=True)):
        return before
    return after


def listed(mapping: Mapping[str, Any], key: str) -> list[Any]:
    """A list-valued field, [] if it is absent or anything else."""
    value = mapping.get(key)
    return value if isinstance(value, list) else []


def messages_of(document: Document) -> list[Message]:
    """The messages that are objects (a valid request has no others)."""
    return [message for message in listed(document, "messages") if isinstance(message, Mapping)]


def blocks_of(message: Mapping[str, Any]) -> list[Block]:
    """The content blocks of a message or of a tool result; a string counts as one text block."""
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    return [block for block in listed(message, "content") if isinstance(block, Mapping)]


def kind(block: object) -> str:
    """The type of a content block, "" for what is none."""
    found = block.get("type") if isinstance(block, Mapping) else None
    return found if isinstance(found, str) else ""


def role(message: object) -> str:
    """The role of a message, "" for what is none."""
    found = message.get("role") if isinstance(message, Mapping) else None
    return found if isinstance(found, str) else ""


def map_messages(document: Document, change: Callable[[Message], Any]) -> Document:
    """The document with its messages rewritten. One that would be left without any is unchanged."""
    messages = document.get("messages")
    if not isinstance(messages, list):
        return document
    after = rewrite(messages, lambda item: change(item) if isinstance(item, Mapping) else item)
    return put(document, "messages", after) if after else document


def map_blocks(
    document: Document,
    change: Callable[[Block], Any],
    *,
    roles: Iterable[str] = (),
    nested: bool = False,
    keep_empty: bool = False,
) -> Document:
    """The document with the content blocks of its messages rewritten.

    `roles` limits it to messages of these roles, `nested` descends into tool
    results first. A message that becomes empty is dropped, unless `keep_empty`.
    """
    wanted = frozenset(roles)

    def change_message(message: Message) -> Message | None:
        if wanted and role(message) not in wanted:
            return message
        after = map_content(message, change, nested=nested)
        emptied = after is not message and not after["content"]
        return None if emptied and not keep_empty else after

    return map_messages(document, change_message)


def map_content(
    holder: Mapping[str, Any], change: Callable[[Block], Any], *, nested: bool = False
) -> Mapping[str, Any]:
    """A message or tool result with its content blocks rewritten; string content is left alone."""
    content = holder.get("content")
    if not isinstance(content, list):
        return holder

    def change_block(block: Any) -> Any:
        if not isinstance(block, Mapping):
            return block
        if nested and kind(block) == "tool_result":
            block = map_content(block, change)
        return change(block)

    return put(holder, "content", rewrite(content, change_block))


def map_objects(
    document: Document, key: str, change: Callable[[Mapping[str, Any]], Any]
) -> Document:
    """The document with the objects of one list (`tools`) rewritten; an emptied list goes."""
    items = document.get(key)
    if not isinstance(items, list):
        return document
    after = rewrite(items, lambda item: change(item) if isinstance(item, Mapping) else item)
    if after is items:
        return document
    return put(document, key, after) if after else without(document, key)
