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
from proxy.formats.openai_chat.content import Block, as_block, blocks_of, text_of
from proxy.formats.openai_chat.ledger import Ledger
from proxy.formats.openai_chat.pairing import Pairing
from proxy.formats.openai_chat.profile import Profile

_ROLES = ("user", "assistant", "system")
_TOOL_CHANGES = ("tool_addition", "tool_removal")
NO_MESSAGES = "messages: at least one message is required"


@dataclass(slots=True)
class Turn:
    """Adjacent messages of one role.

    `blocks` are without an assistant's tool uses, which are its `calls`, and
    without those of a user's tool results that answer a call. A call has a name,
    and an id that no other has.
    """

    role: str
    blocks: list[Block]
    calls: list[Block]
    answers: bool = False  # a user turn that held the result of a call


@dataclass(slots=True)
class Conversation:
    system: list[Block]
    pairs: Pairing
    turns: list[Turn] = field(default_factory=list)
    tool_changes: list[Block] = field(default_factory=list)

    def calls(self) -> Iterable[Block]:
        return (call for turn in self.turns for call in turn.calls)

    def add(self, role: str, content: list[Any]) -> None:
        """Adds one message; one that says nothing leaves no trace."""
        turns, pairs, is_user = self.turns, self.pairs, role == "user"
        merged = bool(turns) and turns[-1].role == role
        turn = turns[-1] if merged else Turn(role, [], [])
        for item in content:
            block = item if type(item) is dict else as_block(item)
            kind = block.get("type")
            if kind == "tool_result" and is_user and pairs.answer(block):
                turn.answers = True
            elif kind == "tool_use" and not is_user:
                turn.calls.append(pairs.call(block, len(turns) - merged))
            elif kind != "text" or block.get("text"):
                turn.blocks.append(block)
        if not merged and (turn.answers or turn.blocks or turn.calls):
            turns.append(turn)


def normalise(document: dict[str, Any], profile: Profile, ledger: Ledger) -> Conversation:
    """The conversation of an Anthropic request. Raises `RequestRefused` for what is none."""
    messages = document.get("messages")
    if not isinstance(messages, list):
        raise RequestRefused(
            "messages: Field required" if messages is None else "messages: must be a list"
        )
    conversation = Conversation(_system_blocks(document.get("system"), ledger), Pairing(messages))
    preserve = profile.inline_system == "preserve" and not profile.message_alternation
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            raise RequestRefused(f"messages.{number}: must be an object")
        role, content = message.get("role"), message.get("content")
        if role not in _ROLES:
            raise RequestRefused(f"messages.{number}.role: must be 'user', 'assistant' or 'system'")
        if not isinstance(content, list):
            content = _listed(content, number)
        if role == "system":
            _add_system(conversation, content, ledger, preserve=preserve)
        else:
            conversation.add(role, content)
    if not conversation.turns:
        raise RequestRefused(NO_MESSAGES)
    return conversation


def _listed(content: Any, number: int) -> list[Any]:
    """The content of a message that is not a list of blocks already."""
    if content is None or isinstance(content, str):
        return [content]
    raise RequestRefused(f"messages.{number}.content: must be a string or a list of content blocks")


def _add_system(
    conversation: Conversation, content: list[Any], ledger: Ledger, *, preserve: bool
) -> None:
    """A system message among the messages: its text, where the provider takes it.

    Its tool changes are set aside.
    """
    blocks = blocks_of(content)
    conversation.tool_changes += [b for b in blocks if b.get("type") in _TOOL_CHANGES]
    texts = [b for b in _system_blocks(blocks, ledger) if b.get("type") == "text"]
    if not conversation.turns:
        conversation.system += texts
    elif texts and preserve:
        conversation.add("system", texts)
    elif texts:
        conversation.add("user", [_reminder(texts)])


def _system_blocks(system: Any, ledger: Ledger) -> list[Block]:
    stripped = without_billing_header(system)
    if stripped is not system:
        ledger.drop("billing_header")
    return [block for block in blocks_of(stripped) if text_of(block)]


def _reminder(blocks: list[Block]) -> Block:
    text = "\n\n".join(map(text_of, blocks))
    return {"type": "text", "text": f"<system-reminder>\n{text}\n</system-reminder>"}
