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
    """Adjacent messages of one role.

    `blocks` are without an assistant's tool uses, which are its `calls`, and
    without those of a user's tool results that answer a call.
    """

    role: str
    blocks: list[Block]
    calls: list[ToolCall]
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
    builder = _Builder(conversation.turns, messages, ledger)
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

    def __init__(self, turns: list[Turn], messages: list[Any], ledger: Ledger) -> None:
        self._turns = turns
        self._messages = messages
        self._ledger = ledger
        self._calls: dict[str, ToolCall] = {}  # the last one of each id
        self._repeated: dict[str, list[tuple[int, ToolCall]]] = {}  # ids of several calls
        self._turn_of: dict[str, int] = {}
        self._ids: set[str] | None = None

    def add(self, role: str, content: Any) -> None:
        """Adds one message; one that says nothing leaves no trace."""
        turns = self._turns
        merged = bool(turns) and turns[-1].role == role
        number = len(turns) - 1 if merged else len(turns)
        turn = turns[-1] if merged else Turn(role, [], [])
        kept, is_user = turn.blocks, role == "user"
        for block in blocks_of(content):
            kind = block.get("type")
            if kind == "tool_use" and not is_user:
                turn.calls.append(self._call(block, number))
            elif kind == "tool_result" and is_user and self._answer(block):
                turn.answers = True
            elif kind != "text" or block.get("text"):
                kept.append(block)
        if not merged and (kept or turn.calls or turn.answers):
            turns.append(turn)

    def _call(self, block: Block, turn: int) -> ToolCall:
        name, client_id = block.get("name"), block.get("id")
        if not isinstance(name, str) or not name:
            raise RequestRefused("messages: tool_use.name: Field required")
        if "cache_control" in block:
            self._ledger.drop("cache_control")
        if not isinstance(client_id, str):
            client_id = ""
        call = ToolCall(client_id, client_id, name, block.get("input"))
        if client_id in self._calls or not client_id:
            self._tell_apart(call, turn)
        self._calls[client_id] = call
        self._turn_of[client_id] = turn
        return call

    def _tell_apart(self, call: ToolCall, turn: int) -> None:
        """Gives a call an id of its own, and notes all calls that share the client's id."""
        first = self._calls.get(call.client_id)
        sharing = self._repeated.setdefault(call.client_id, [])
        if first is not None and not sharing:
            sharing.append((self._turn_of[call.client_id], first))
        sharing.append((turn, call))
        if self._ids is None:
            self._ids = set(_tool_use_ids(self._messages))
        call.id = unused(call.client_id or "call_without_id", self._ids)
        self._ids.add(call.id)

    def _answer(self, block: Block) -> bool:
        """Whether `block`, a result, is that of a call."""
        tool_id = block.get("tool_use_id")
        if not isinstance(tool_id, str):
            tool_id = ""
        call = self._calls.get(tool_id)
        if call is not None and tool_id in self._repeated:
            call = self._answerable(self._repeated[tool_id])
        if call is None or call.result is not None:
            return False
        call.result = block
        return True

    def _answerable(self, sharing: list[tuple[int, ToolCall]]) -> ToolCall | None:
        """Of several calls with one id, the first unanswered one of the last turn that has any."""
        waiting = [(turn, call) for turn, call in sharing if call.result is None]
        return next((call for turn, call in waiting if turn == waiting[-1][0]), None)


def _tool_use_ids(messages: list[Any]) -> Iterable[str]:
    for message in messages:
        for block in blocks_of(message.get("content") if isinstance(message, dict) else None):
            if block.get("type") == "tool_use" and isinstance(block.get("id"), str):
                yield block["id"]
