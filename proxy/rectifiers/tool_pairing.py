"""Tool calls and their results: every call is answered at once, every result answers a call.

The API reports the first message that breaks the rule; these functions put the
whole history in order. They are used for every format: what they build is a
valid Anthropic history.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.rectifiers.document import (
    Block,
    Document,
    blocks_of,
    kind,
    listed,
    map_blocks,
    map_content,
    put,
    role,
    same_or,
)

INTERRUPTED = "Tool execution was interrupted."
CARRIED_OVER = frozenset({"image", "document", "search_result"})
"""What a tool result may hold and a user message as well."""
SERVER_CALLS = frozenset({"server_tool_use", "mcp_tool_use"})


@dataclass(slots=True)
class Segment:
    """One assistant turn (several messages in a row are one) and all that follows it."""

    turn: list[Any] = field(default_factory=list)
    replies: list[Any] = field(default_factory=list)

    def calls(self) -> list[Block]:
        return list(_blocks(self.turn, "tool_use"))

    def results(self) -> list[Block]:
        return list(_blocks(self.replies, "tool_result"))

    def call_ids(self) -> list[str]:
        return list(dict.fromkeys(str(call.get("id")) for call in self.calls()))


def segments(messages: list[Any]) -> list[Segment]:
    """The history, cut before each assistant turn; the first segment may have no turn."""
    found = [Segment()]
    for message in messages:
        if role(message) != "assistant":
            found[-1].replies.append(message)
            continue
        if found[-1].replies or not found[-1].turn:
            found.append(Segment())
        found[-1].turn.append(message)
    return found


def pair_tools(document: Document) -> Document:
    """The document with each tool call answered in the next message, results first.

    A result that comes too late is moved up, a missing one is made up, and one
    that answers nothing becomes text. Results of server tools that answer
    nothing are dropped.
    """
    messages = listed(document, "messages")
    history = segments(messages)
    answers = _assign(history)
    used = {id(result) for answered in answers for result in answered.values()}
    paired: list[Any] = []
    for segment, answered in zip(history, answers, strict=True):
        paired += (_without_results(message, used) for message in segment.turn)
        paired += _replies(segment, answered, used)
    kept = same_or(messages, [message for message in paired if message is not None])
    if kept:
        document = put(document, "messages", kept)
    return _drop_orphaned_server_results(document)


def _assign(history: list[Segment]) -> list[dict[str, Block]]:
    """For each segment its answered calls: id and result, in the order of the results."""
    answers: list[dict[str, Block]] = []
    open_calls: dict[str, dict[str, Block]] = {}
    for segment in history:
        here: dict[str, Block] = {}
        open_calls.update((call, here) for call in segment.call_ids())
        for result in segment.results():
            call = str(result.get("tool_use_id"))
            if call in open_calls:
                open_calls.pop(call)[call] = result
        answers.append(here)
    return answers


def _replies(segment: Segment, answered: Mapping[str, Block], used: set[int]) -> Iterator[Any]:
    """What follows a turn: one user message that begins with all results, then the rest."""
    missing = [_made_up(call) for call in segment.call_ids() if call not in answered]
    results = [*answered.values(), *missing]
    at = next((i for i, reply in enumerate(segment.replies) if role(reply) == "user"), None)
    if not results or at is None:
        if results:
            yield {"role": "user", "content": results}
        yield from (_without_results(reply, used) for reply in segment.replies)
        return
    first, before = segment.replies[at], listed(segment.replies[at], "content")
    content = same_or(before, [*results, *_rest(first, used)])
    yield first if content is before else {**first, "content": content}
    for reply in (*segment.replies[:at], *segment.replies[at + 1 :]):
        yield _without_results(reply, used)


def _rest(message: Any, used: set[int]) -> list[Any]:
    """The blocks of a message beside the results that were placed elsewhere."""
    rest = _without_results(message, used)
    if rest is None:
        return []
    return listed(rest, "content") or list(blocks_of(rest))


def _without_results(message: Any, used: set[int]) -> Any:
    """The message without tool results: those in `used` are placed elsewhere, others become text.
    None if nothing is left."""
    if not isinstance(message, Mapping):
        return message

    def change(block: Block) -> Any:
        if kind(block) != "tool_result":
            return block
        return None if id(block) in used else as_text(block)

    after = map_content(message, change)
    return None if after is not message and not after["content"] else after


def _made_up(call: str) -> Block:
    return {"type": "tool_result", "tool_use_id": call, "is_error": True, "content": INTERRUPTED}


def as_text(result: Block) -> list[Block]:
    """A tool result that answers nothing, as blocks of a user message; [] if it says nothing."""
    inner = blocks_of(result)
    said = [str(block.get("text", "")) for block in inner if kind(block) == "text"]
    text = "\n".join(piece for piece in said if piece.strip())
    blocks = [block for block in inner if kind(block) in CARRIED_OVER]
    if not text and not blocks:
        return []
    label = f"[Result of an earlier tool call {result.get('tool_use_id')}]"
    blocks.insert(0, {"type": "text", "text": f"{label}\n{text}" if text else label})
    mark = result.get("cache_control")
    if mark is not None and "cache_control" not in blocks[-1]:
        blocks[-1] = {**blocks[-1], "cache_control": mark}
    return blocks


def _drop_orphaned_server_results(document: Document) -> Document:
    called: set[Any] = set()

    def change(block: Block) -> Block | None:
        if kind(block) in SERVER_CALLS:
            called.add(block.get("id"))
        orphaned = is_server_result(block) and block.get("tool_use_id") not in called
        return None if orphaned else block

    return map_blocks(document, change, roles=("assistant",))


def drop_unanswered_server_calls(document: Document) -> Document:
    """The document without calls of server tools that never got a result."""
    answered = {
        block.get("tool_use_id")
        for message in listed(document, "messages")
        if isinstance(message, Mapping)
        for block in blocks_of(message)
        if is_server_result(block)
    }

    def change(block: Block) -> Block | None:
        return None if kind(block) in SERVER_CALLS and block.get("id") not in answered else block

    return map_blocks(document, change, roles=("assistant",))


def is_server_result(block: Block) -> bool:
    return kind(block).endswith("_tool_result")


def _blocks(messages: list[Any], wanted: str) -> Iterator[Block]:
    for message in messages:
        if isinstance(message, Mapping):
            yield from (block for block in blocks_of(message) if kind(block) == wanted)
