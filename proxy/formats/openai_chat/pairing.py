"""Which result belongs to which call of a tool."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from proxy.errors import RequestRefused
from proxy.formats.openai_chat.content import Block
from proxy.formats.openai_chat.identifiers import unused

_Call = tuple[int, str]  # the number of its turn, and its id


class Pairing:
    """Calls and their results, while a history is read from its start.

    `results` has every call's id and its result, None if there is none.
    """

    def __init__(self, messages: list[Any]) -> None:
        self.results: dict[str, Block | None] = {}
        self._renamed: dict[
            str, str
        ] = {}  # to the client's id, of calls that had none of their own
        self._messages = messages
        self._turn_of: dict[str, int] = {}
        self._sharing: dict[str, list[_Call]] = {}  # by ids that several calls share
        self._ids: set[str] | None = None

    def client_id(self, tool_id: str) -> str:
        """The id of a call as the client knows it."""
        return self._renamed.get(tool_id, tool_id)

    def client_ids(self) -> frozenset[str]:
        return frozenset(self.results.keys() - self._renamed.keys()).union(self._renamed.values())

    def call(self, block: Block, turn: int) -> Block:
        """The call with an id of its own. Raises `RequestRefused` for one without a name."""
        name, tool_id = block.get("name"), block.get("id")
        if not isinstance(name, str) or not name:
            raise RequestRefused("messages: tool_use.name: Field required")
        if not isinstance(tool_id, str) or not tool_id or tool_id in self.results:
            tool_id = self._tell_apart(tool_id if isinstance(tool_id, str) else "", turn)
            block = {**block, "id": tool_id}
        self.results[tool_id] = None
        self._turn_of[tool_id] = turn
        return block

    def answer(self, block: Block) -> bool:
        """Whether `block`, a result, is that of a call."""
        tool_id = block.get("tool_use_id")
        if not isinstance(tool_id, str):
            tool_id = ""
        if tool_id in self._sharing:
            tool_id = self._answerable(self._sharing[tool_id])
        if self.results.get(tool_id, block) is not None:
            return False
        self.results[tool_id] = block
        return True

    def _tell_apart(self, client_id: str, turn: int) -> str:
        """An id for one of several calls with the same, which are noted."""
        sharing = self._sharing.setdefault(client_id, [])
        if not sharing and client_id in self.results:
            sharing.append((self._turn_of[client_id], client_id))
        if self._ids is None:
            self._ids = set(_tool_use_ids(self._messages))
        tool_id = unused(client_id or "call_without_id", self._ids)
        self._ids.add(tool_id)
        self._renamed[tool_id] = client_id
        sharing.append((turn, tool_id))
        return tool_id

    def _answerable(self, sharing: list[_Call]) -> str:
        """Of several calls with one id, the first unanswered one of the last turn that has any."""
        waiting = [(turn, tool_id) for turn, tool_id in sharing if self.results[tool_id] is None]
        return next((tool_id for turn, tool_id in waiting if turn == waiting[-1][0]), "")


def _tool_use_ids(messages: list[Any]) -> Iterable[str]:
    contents = (message.get("content") for message in messages if isinstance(message, dict))
    for block in (block for content in contents if isinstance(content, list) for block in content):
        if isinstance(block, dict) and block.get("type") == "tool_use":
            tool_id = block.get("id")
            if isinstance(tool_id, str):
                yield tool_id
