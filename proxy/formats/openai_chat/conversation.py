"""A conversation as Chat Completions wants it: merged turns, every tool call answered.

Anthropic's API lets messages of one role follow each other, results come in any
order among other content, and system messages appear anywhere. This brings all
of that into one shape, without changing the client's document.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from proxy.errors import RequestRefused
from proxy.formats.billing import without_billing_header
from proxy.formats.openai_chat.identifiers import unused
from proxy.formats.openai_chat.ledger import Ledger
from proxy.formats.openai_chat.profile import Profile

Block = dict[str, Any]
_ROLES = ("user", "assistant", "system")
_TOOL_CHANGES = ("tool_addition", "tool_removal")
NO_MESSAGES = "messages: at least one message is required"


@dataclass(slots=True)
class ToolCall:
    """One `tool_use` of the history and the result that belongs to it.

    `client_id` is the id in the history, `id` the same made unique.
    """

    client_id: str
    id: str
    name: str
    input: Any
    result: Block | None = None


@dataclass(slots=True)
class Turn:
    """Adjacent messages of one role. `calls` are an assistant's; of a user's results
    only those are left in `blocks` that answer no call."""

    role: str
    blocks: list[Block]
    calls: list[ToolCall] = field(default_factory=list)
    answers: bool = False  # a user turn that held the result of a call


@dataclass(slots=True)
class Conversation:
    system: list[Block] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    tool_changes: list[Block] = field(default_factory=list)

    def calls(self) -> Iterable[ToolCall]:
        return (call for turn in self.turns for call in turn.calls)


def normalise(document: dict[str, Any], profile: Profile, ledger: Ledger) -> Conversation:
    """The conversation of an Anthropic request. Raises `RequestRefused` for what is none."""
    messages = document.get("messages")
    if not isinstance(messages, list):
        raise RequestRefused(
            "messages: Field required" if messages is None else "messages: must be a list"
        )
    conversation = Conversation(system=_system_blocks(document.get("system"), ledger))
    preserve = profile.inline_system == "preserve" and not profile.message_alternation
    for number, message in enumerate(messages):
        role, blocks = _read(message, number)
        if role == "system":
            blocks = _inline_system(blocks, conversation, ledger)
            if not conversation.turns:
                conversation.system += blocks
                continue
            if blocks and not preserve:
                role, blocks = "user", [_reminder(blocks)]
        _append(conversation.turns, role, blocks)
    if not conversation.turns:
        raise RequestRefused(NO_MESSAGES)
    _pair(conversation.turns)
    return conversation


def _read(message: Any, number: int) -> tuple[str, list[Block]]:
    where = f"messages.{number}"
    if not isinstance(message, dict):
        raise RequestRefused(f"{where}: must be an object")
    role = message.get("role")
    if role not in _ROLES:
        raise RequestRefused(f"{where}.role: must be 'user', 'assistant' or 'system'")
    content = message.get("content")
    if content is not None and not isinstance(content, str | list):
        raise RequestRefused(f"{where}.content: must be a string or a list of content blocks")
    return role, blocks_of(content)


def blocks_of(content: Any) -> list[Block]:
    """Content as a new list of blocks: a string is one text block; what is no block is left out."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, dict):
        return [content]
    if not isinstance(content, list):
        return []
    return [
        block if isinstance(block, dict) else {"type": "text", "text": block}
        for block in content
        if isinstance(block, dict | str)
    ]


def text_of(block: Block) -> str:
    """The text of a text block, "" if it has none."""
    text = block.get("text")
    return text if isinstance(text, str) else ""


def _system_blocks(system: Any, ledger: Ledger) -> list[Block]:
    stripped = without_billing_header(system)
    if stripped is not system:
        ledger.drop("billing_header")
    return [block for block in blocks_of(stripped) if text_of(block)]


def _inline_system(blocks: list[Block], conversation: Conversation, ledger: Ledger) -> list[Block]:
    """The text of a system message among the messages; its tool changes are set aside."""
    for block in blocks:
        if block.get("type") in _TOOL_CHANGES:
            conversation.tool_changes.append(block)
    return [block for block in _system_blocks(blocks, ledger) if block.get("type") == "text"]


def _reminder(blocks: list[Block]) -> Block:
    text = "\n\n".join(map(text_of, blocks))
    return {"type": "text", "text": f"<system-reminder>\n{text}\n</system-reminder>"}


def _append(turns: list[Turn], role: str, blocks: list[Block]) -> None:
    if all(block.get("type") == "text" and not text_of(block) for block in blocks):
        return
    if turns and turns[-1].role == role:
        turns[-1].blocks += blocks
    else:
        turns.append(Turn(role, blocks))


def _pair(turns: list[Turn]) -> None:
    """Gives every call its result, wherever a later user turn has it."""
    pairing = _Pairing(turns)
    for number, turn in enumerate(turns):
        if turn.role == "assistant":
            for block in turn.blocks:
                if block.get("type") == "tool_use":
                    turn.calls.append(pairing.call(block, number))
        elif turn.role == "user":
            kept = [block for block in turn.blocks if not pairing.answer(block)]
            turn.answers = len(kept) != len(turn.blocks)
            turn.blocks = kept


class _Pairing:
    def __init__(self, turns: list[Turn]) -> None:
        self._turns = turns
        self._taken: set[str] = set()
        self._all_ids: set[str] | None = None
        self._unanswered: dict[str, list[tuple[int, ToolCall]]] = {}

    def call(self, block: Block, turn: int) -> ToolCall:
        name = block.get("name")
        if not isinstance(name, str) or not name:
            raise RequestRefused("messages: tool_use.name: Field required")
        client_id = block.get("id")
        if not isinstance(client_id, str):
            client_id = ""
        call = ToolCall(client_id, self._unique(client_id), name, block.get("input"))
        self._unanswered.setdefault(client_id, []).append((turn, call))
        return call

    def answer(self, block: Block) -> bool:
        """Whether `block` is the result of a call.

        Of several calls with one id it belongs to the first one of the last turn.
        """
        if block.get("type") != "tool_result":
            return False
        tool_id = block.get("tool_use_id")
        waiting = self._unanswered.get(tool_id if isinstance(tool_id, str) else "")
        if not waiting:
            return False
        last_turn = waiting[-1][0]
        index = next(i for i, (turn, _) in enumerate(waiting) if turn == last_turn)
        waiting.pop(index)[1].result = block
        return True

    def _unique(self, client_id: str) -> str:
        if client_id and client_id not in self._taken:
            self._taken.add(client_id)
            return client_id
        if self._all_ids is None:
            self._all_ids = {
                block["id"]
                for turn in self._turns
                for block in turn.blocks
                if block.get("type") == "tool_use" and isinstance(block.get("id"), str)
            }
        unique = unused(client_id or "call_without_id", self._taken | self._all_ids)
        self._taken.add(unique)
        return unique
