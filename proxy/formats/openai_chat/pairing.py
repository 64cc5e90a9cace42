"""Which result belongs to which call of a tool."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from proxy.errors import RequestRefused
from proxy.formats.openai_chat.content import Block
from proxy.formats.openai_chat.identifiers import unused

Message = dict[str, Any]
_Call = tuple[int, str]  # the number of its turn, and its id


class Pairing:
    """Calls and their results, while a history is read from its start.

    `waiting` has every call's id and the message that its result belongs in,
    None once the result was there.
    """

    def __init__(self, messages: list[Any]) -> None:
        self.waiting: dict[str, Message | None] = {}
        self._renamed: dict[str, str] = {}  # our ids to the client's, where a call had none for it
        self._messages = messages
        self._turn_of: dict[str, int] = {}
        self._sharing: dict[str, list[_Call]] = {}  # by ids that several calls share
        self._ids: set[str] | None = None

    def client_id(self, call_id: str) -> str:
        """The id of a call as the client knows it."""
        return self._renamed.get(call_id, call_id)

    def client_ids(self) -> frozenset[str]:
        return frozenset(self.waiting.keys() - self._renamed.keys()).union(self._renamed.values())

    def unanswered(self) -> int:
        return sum(message is not None for message in self.waiting.values())

    def call(self, block: Block, turn: int) -> str:
        """An id for a call that no other has: the client's, if that is free."""
        call_id = block.get("id")
        if not isinstance(call_id, str) or not call_id or call_id in self.waiting:
            call_id = self._tell_apart(call_id if isinstance(call_id, str) else "", turn)
        self._turn_of[call_id] = turn
        return call_id

    def answer(self, block: Block) -> Message | None:
        """The message that `block`, a result, belongs in. None if it is nobody's."""
        call_id = block.get("tool_use_id")
        if not isinstance(call_id, str):
            call_id = ""
        if call_id in self._sharing:
            call_id = self._answerable(self._sharing[call_id])
        message = self.waiting.get(call_id)
        if message is not None:
            self.waiting[call_id] = None
        return message

    def _tell_apart(self, client_id: str, turn: int) -> str:
        """An id for one of several calls with the same, which are noted."""
        sharing = self._sharing.setdefault(client_id, [])
        if not sharing and client_id in self.waiting:
            sharing.append((self._turn_of[client_id], client_id))
        if self._ids is None:
            self._ids = set(_tool_use_ids(self._messages))
        call_id = unused(client_id or "call_without_id", self._ids)
        self._ids.add(call_id)
        self._renamed[call_id] = client_id
        sharing.append((turn, call_id))
        return call_id

    def _answerable(self, sharing: list[_Call]) -> str:
        """Of several calls with one id, the first unanswered one of the last turn that has any."""
        open_calls = [(turn, call_id) for turn, call_id in sharing if self.waiting[call_id]]
        return next((call_id for turn, call_id in open_calls if turn == open_calls[-1][0]), "")


def name_of(block: Block) -> str:
    """The name of the tool that a call is for. Raises `RequestRefused` if it has none."""
    name = block.get("name")
    if not isinstance(name, str) or not name:
        raise RequestRefused("messages: tool_use.name: Field required")
    return name


def _tool_use_ids(messages: list[Any]) -> Iterable[str]:
    contents = (message.get("content") for message in messages if isinstance(message, dict))
    for block in (block for content in contents if isinstance(content, list) for block in content):
        if isinstance(block, dict) and block.get("type") == "tool_use":
            tool_id = block.get("id")
            if isinstance(tool_id, str):
                yield tool_id
