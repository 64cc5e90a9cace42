"""Content blocks: empty text, cache marks, a conversation that ends with the assistant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.rectifiers.base import ANTHROPIC, Rule, on_document, wording
from proxy.rectifiers.document import (
    Block,
    Document,
    Message,
    kind,
    listed,
    map_messages,
    map_objects,
    put,
    role,
    same_or,
    without,
)
from proxy.rectifiers.tools import POISONED

PLACEHOLDER: Block = {"type": "text", "text": "(no content)"}
CONTINUE: Message = {"role": "user", "content": "Continue."}
MAX_CACHE_MARKS = 4
UNMARKABLE = frozenset({"thinking", "redacted_thinking"})


def drop_empty_text(document: Document) -> Document:
    """The document without blank text blocks, in messages, tool results and the system prompt.

    A cache mark moves to the block before (else after). A user message or a
    failed tool result left empty says "(no content)"; an assistant message goes.
    """
    system = document.get("system")
    if isinstance(system, str) and not system.strip():
        document = without(document, "system")
    elif isinstance(system, list):
        filled = _filled(system)
        document = put(document, "system", filled) if filled else without(document, "system")
    return map_messages(document, _fill_message)


def _fill_message(message: Message) -> Message | None:
    content = message.get("content")
    if isinstance(content, list):
        filled = _filled([_fill_result(block) for block in content], content)
    else:
        filled = [] if content is None or not str(content).strip() else content
    if filled:
        return message if filled is content else {**message, "content": filled}
    if role(message) == "user":
        return {**message, "content": [PLACEHOLDER]}
    # a system message may do without words if it changes a setting
    return without(message, "content") if message.get("output_config") else None


def _fill_result(block: Any) -> Any:
    if kind(block) != "tool_result":
        return block
    content = block.get("content")
    filled = _filled(content) if isinstance(content, list) else content
    if block.get("is_error") and (not filled or not str(filled).strip()):
        return {**block, "content": [PLACEHOLDER]}
    if filled == [] and content:
        return without(block, "content")
    return block if filled is content else {**block, "content": filled}


def _filled(blocks: list[Any], before: list[Any] | None = None) -> list[Any]:
    """The list without blank text; `before` itself (or `blocks`) if nothing changed."""
    before = blocks if before is None else before
    out: list[Any] = []
    homeless: Any = None
    for block in blocks:
        if _is_blank(block):
            mark = block.get("cache_control") if isinstance(block, Mapping) else None
            if mark is not None and out:
                out[-1] = _marked_with(out[-1], mark)
            else:
                homeless = mark or homeless
            continue
        out.append(_marked_with(block, homeless))
        homeless = None
    return same_or(before, out)


def _marked_with(block: Any, mark: Any) -> Any:
    if mark is None or not isinstance(block, Mapping) or kind(block) in UNMARKABLE:
        return block
    return block if block.get("cache_control") is not None else {**block, "cache_control": mark}


def _is_blank(block: object) -> bool:
    if not isinstance(block, Mapping):
        return isinstance(block, str) and not block.strip()
    return kind(block) == "text" and not str(block.get("text") or "").strip()


def limit_cache_marks(document: Document) -> Document:
    """The document with at most four cache marks: on the last marked tool, the last marked system
    block, then the latest of the messages, then what is left from the end of system and tools."""
    tools, system, messages = (
        list(_marked(document, key)) for key in ("tools", "system", "messages")
    )
    room = MAX_CACHE_MARKS - ("cache_control" in document)
    wanted = [
        *tools[-1:],
        *system[-1:],
        *reversed(messages),
        *reversed(system[:-1]),
        *reversed(tools[:-1]),
    ]
    if len(wanted) <= room:
        return document
    excess = {id(holder) for holder in wanted[room:]}

    def unmark(holder: Any) -> Any:
        if isinstance(holder, Mapping) and isinstance(holder.get("content"), list):
            content = [unmark(block) for block in holder["content"]]
            if any(a is not b for a, b in zip(content, holder["content"], strict=True)):
                unmarked = without(holder, "cache_control") if id(holder) in excess else holder
                return {**unmarked, "content": content}
        return without(holder, "cache_control") if id(holder) in excess else holder

    for key in ("tools", "system"):
        document = map_objects(document, key, unmark)
    return map_messages(document, unmark)


def _marked(holder: Mapping[str, Any], key: str) -> Iterator[Block]:
    """Everything below a list that has a cache mark, in the order of the prompt."""
    for item in listed(holder, key):
        if isinstance(item, Mapping):
            yield from _marked(item, "content")
            if item.get("cache_control") is not None:
                yield item


def end_with_user(document: Document) -> Document:
    """The document with a user message at its end: a blank assistant message goes, another is
    followed by "Continue."."""
    messages = listed(document, "messages")
    if not messages or role(messages[-1]) != "assistant":
        return document
    filled = _fill_message(messages[-1])
    kept = messages[:-1] if filled is None else messages
    if not kept or role(kept[-1]) == "assistant":
        kept = [*kept, CONTINUE]
    return put(document, "messages", kept)


REPAIRS = (
    Rule(
        name="empty_text",
        label="Drop empty text blocks",
        formats=ANTHROPIC,
        says=wording(
            r"text content blocks must be non-empty",
            r"text content blocks must contain non-whitespace text",
            r"must contain non-whitespace text",
            r"cache_control cannot be set for empty text blocks",
            r"(?:user|all) messages must have non-empty content",
            r"content cannot be empty if is_error is true",
        ),
        mend=on_document(drop_empty_text),
        on_primary=True,
        why=POISONED,
    ),
    Rule(
        name="cache_marks",
        label="Keep no more than four cache marks",
        formats=ANTHROPIC,
        says=wording(r"a maximum of \d+ blocks with cache_control may be provided"),
        mend=on_document(limit_cache_marks),
        on_primary=True,
        why="Claude Code repeats the same body; marks change cost, not meaning",
    ),
    Rule(
        name="prefill",
        label="End the conversation with a user message",
        formats=ANTHROPIC,
        says=wording(
            r"does not support assistant message prefill",
            r"the conversation must end with a user message",
        ),
        mend=on_document(end_with_user),
        why="changes what the client asked for: it should hear that its prefill is refused",
    ),
)
