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
_Call = tuple[int, str]  # the number of its turn, and its id
_ROLES = ("user", "assistant", "system")
_TOOL_CHANGES = ("tool_addition", "tool_removal")
NO_MESSAGES = "messages: at least one message is required"


@dataclass(slots=True)
class Turn:
    """Adjacent messages of one role.

    `blocks` are without a user's tool results that answer a call; the tool uses
    among them have a name and an id that is theirs alone.
    """

    role: str
    blocks: list[Block]
    answers: bool = False  # a user turn that held the result of a call


@dataclass(slots=True)
class Conversation:
    """The turns, and what belongs to no place among them.

    `results` has every call's id and its result, if there is one; `renamed` the
    client's id of each call that did not have an id of its own.
    """

    system: list[Block] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    tool_changes: list[Block] = field(default_factory=list)
    results: dict[str, Block | None] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)

    def calls(self) -> Iterable[Block]:
        return (block for turn in self.turns for block in turn.blocks if is_call(turn.role, block))

    def client_ids(self) -> frozenset[str]:
        """The ids of calls in the history, as the client knows them."""
        return frozenset(self.renamed.get(tool_id, tool_id) for tool_id in self.results)


def normalise(document: dict[str, Any], profile: Profile, ledger: Ledger) -> Conversation:
    """The conversation of an Anthropic request. Raises `RequestRefused` for what is none."""
    messages = document.get("messages")
    if not isinstance(messages, list):
        raise RequestRefused(
            "messages: Field required" if messages is None else "messages: must be a list"
        )
    conversation = Conversation(system=_system_blocks(document.get("system"), ledger))
    builder = _Builder(conversation, messages)
    preserve = profile.inline_system == "preserve" and not profile.message_alternation
    for number, message in enumerate(messages):
        role, content = _read(message, number)
        if role == "system":
            blocks = _inline_system(content, conversation, ledger)
            if not conversation.turns:
                conversation.system += blocks
            elif blocks and preserve:
                builder.add("system", blocks)
            elif blocks:
                builder.add("user", [_reminder(blocks)])
        else:
            builder.add(role, content)
    if not conversation.turns:
        raise RequestRefused(NO_MESSAGES)
    return conversation


def _read(message: Any, number: int) -> tuple[str, Any]:
    """Role and content of a message."""
    if not isinstance(message, dict):
        raise RequestRefused(f"messages.{number}: must be an object")
    role = message.get("role")
    if role not in _ROLES:
        raise RequestRefused(f"messages.{number}.role: must be 'user', 'assistant' or 'system'")
    content = message.get("content")
    if isinstance(content, (list, str)):
        return role, content
    if content is None:
        return role, []
    raise RequestRefused(f"messages.{number}.content: must be a string or a list of content blocks")


def blocks_of(content: Any) -> list[Block]:
    """Content as blocks: a string is one text block; what is no block is left out."""
    if isinstance(content, list):
        for block in content:
            if type(block) is not dict:
                return [_as_block(item) for item in content if isinstance(item, (dict, str))]
        return content
    if isinstance(content, (dict, str)):
        return [_as_block(content)]
    return []


def is_call(role: str, block: Block) -> bool:
    """Whether a block of a turn is a call of a tool; what a user sends cannot be one."""
    return role != "user" and block.get("type") == "tool_use"


def text_of(block: Block) -> str:
    """The text of a text block, "" if it has none."""
    text = block.get("text")
    return text if isinstance(text, str) else ""


def _as_block(item: dict[str, Any] | str) -> Block:
    return {"type": "text", "text": item} if isinstance(item, str) else item


def _system_blocks(system: Any, ledger: Ledger) -> list[Block]:
    stripped = without_billing_header(system)
    if stripped is not system:
        ledger.drop("billing_header")
    return [block for block in blocks_of(stripped) if text_of(block)]


def _inline_system(content: Any, conversation: Conversation, ledger: Ledger) -> list[Block]:
    """The text of a system message among the messages; its tool changes are set aside."""
    blocks = blocks_of(content)
    for block in blocks:
        if block.get("type") in _TOOL_CHANGES:
            conversation.tool_changes.append(block)
    return [block for block in _system_blocks(blocks, ledger) if block.get("type") == "text"]


def _reminder(blocks: list[Block]) -> Block:
    text = "\n\n".join(map(text_of, blocks))
    return {"type": "text", "text": f"<system-reminder>\n{text}\n</system-reminder>"}


class _Builder:
    """Merges messages into turns, and gives every call the result that belongs to it."""

    def __init__(self, conversation: Conversation, messages: list[Any]) -> None:
        self._turns = conversation.turns
        self._results = conversation.results
        self._renamed = conversation.renamed
        self._messages = messages
        self._sharing: dict[str, list[_Call]] = {}  # by ids that several calls share
        self._turn_of: dict[str, int] = {}
        self._ids: set[str] | None = None

    def add(self, role: str, content: Any) -> None:
        """Adds one message; one that says nothing leaves no trace."""
        turns = self._turns
        merged = bool(turns) and turns[-1].role == role
        turn = turns[-1] if merged else Turn(role, [])
        if role == "user":
            self._read_user(turn, blocks_of(content))
        else:
            self._read_other(turn, blocks_of(content), len(turns) - merged)
        if not merged and (turn.blocks or turn.answers):
            turns.append(turn)

    def _read_user(self, turn: Turn, blocks: list[Block]) -> None:
        for block in blocks:
            kind = block.get("type")
            if kind == "tool_result" and self._answer(block):
                turn.answers = True
            elif kind != "text" or block.get("text"):
                turn.blocks.append(block)

    def _read_other(self, turn: Turn, blocks: list[Block], number: int) -> None:
        for block in blocks:
            kind = block.get("type")
            if kind == "tool_use":
                turn.blocks.append(self._call(block, number))
            elif kind != "text" or block.get("text"):
                turn.blocks.append(block)

    def _call(self, block: Block, turn: int) -> Block:
        """The call, with an id of its own."""
        name, tool_id = block.get("name"), block.get("id")
        if not isinstance(name, str) or not name:
            raise RequestRefused("messages: tool_use.name: Field required")
        if not isinstance(tool_id, str) or not tool_id or tool_id in self._results:
            tool_id = self._tell_apart(tool_id if isinstance(tool_id, str) else "", turn)
            block = {**block, "id": tool_id}
        self._results[tool_id] = None
        self._turn_of[tool_id] = turn
        return block

    def _tell_apart(self, client_id: str, turn: int) -> str:
        """An id for one of several calls with the same, which are noted."""
        sharing = self._sharing.setdefault(client_id, [])
        if not sharing and client_id in self._results:
            sharing.append((self._turn_of[client_id], client_id))
        if self._ids is None:
            self._ids = set(_tool_use_ids(self._messages))
        tool_id = unused(client_id or "call_without_id", self._ids)
        self._ids.add(tool_id)
        self._renamed[tool_id] = client_id
        sharing.append((turn, tool_id))
        return tool_id

    def _answer(self, block: Block) -> bool:
        """Whether `block`, a result, is that of a call."""
        tool_id = block.get("tool_use_id")
        if not isinstance(tool_id, str):
            tool_id = ""
        if tool_id in self._sharing:
            tool_id = self._answerable(self._sharing[tool_id])
        if self._results.get(tool_id, block) is not None:
            return False
        self._results[tool_id] = block
        return True

    def _answerable(self, sharing: list[_Call]) -> str:
        """Of several calls with one id, the first unanswered one of the last turn that has any."""
        waiting = [(turn, tool_id) for turn, tool_id in sharing if self._results[tool_id] is None]
        return next((tool_id for turn, tool_id in waiting if turn == waiting[-1][0]), "")


def _tool_use_ids(messages: list[Any]) -> Iterable[str]:
    for message in messages:
        for block in blocks_of(message.get("content") if isinstance(message, dict) else None):
            if block.get("type") == "tool_use" and isinstance(block.get("id"), str):
                yield block["id"]
