"""A conversation, message by message, to whoever writes it down for Chat Completions.

Anthropic's API lets messages of one role follow each other, and system messages
appear anywhere. What comes before the first turn, or changes the tools, is set
aside here; everything else goes to the `MessageWriter` in the client's order,
without changing the client's document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.errors import RequestRefused
from proxy.formats.billing import without_billing_header
from proxy.formats.openai_chat.content import Block, blocks_of, text_of
from proxy.formats.openai_chat.ledger import Ledger
from proxy.formats.openai_chat.messages import MessageWriter
from proxy.formats.openai_chat.profile import Profile

_ROLES = ("user", "assistant", "system")
_TOOL_CHANGES = ("tool_addition", "tool_removal")
NO_MESSAGES = "messages: at least one message is required"


@dataclass(slots=True)
class Preamble:
    """The system prompt, and the changes of tools that system messages tell."""

    system: list[Block]
    tool_changes: list[Block] = field(default_factory=list)


def read_conversation(
    document: Mapping[str, Any], writer: MessageWriter, profile: Profile, ledger: Ledger
) -> Preamble:
    """Writes the conversation of a request. Raises `RequestRefused` for what is none."""
    preamble = Preamble(_system_blocks(document.get("system"), ledger))
    preserve = profile.inline_system == "preserve" and not profile.message_alternation
    for number, message in enumerate(messages_of(document)):
        if not isinstance(message, dict):
            raise RequestRefused(f"messages.{number}: must be an object")
        role, content = message.get("role"), message.get("content")
        if not isinstance(content, list):
            content = _listed(content, number)
        if role == "assistant":
            writer.assistant(content)
        elif role == "user":
            writer.user(content)
        elif role == "system":
            _add_system(preamble, writer, content, ledger, preserve=preserve)
        else:
            raise RequestRefused(f"messages.{number}.role: must be 'user', 'assistant' or 'system'")
    if not writer.begun:
        raise RequestRefused(NO_MESSAGES)
    return preamble


def messages_of(document: Mapping[str, Any]) -> list[Any]:
    """The messages of a request. Raises `RequestRefused`."""
    messages = document.get("messages")
    if isinstance(messages, list):
        return messages
    raise RequestRefused(
        "messages: Field required" if messages is None else "messages: must be a list"
    )


def _listed(content: Any, number: int) -> list[Any]:
    """The content of a message that is not a list of blocks already."""
    if content is None or isinstance(content, str):
        return [content]
    raise RequestRefused(f"messages.{number}.content: must be a string or a list of content blocks")


def _add_system(
    preamble: Preamble, writer: MessageWriter, content: list[Any], ledger: Ledger, *, preserve: bool
) -> None:
    """A system message among the messages: its text, where the provider takes it."""
    blocks = blocks_of(content)
    preamble.tool_changes += [b for b in blocks if b.get("type") in _TOOL_CHANGES]
    texts = [b for b in _system_blocks(blocks, ledger) if b.get("type") == "text"]
    if not writer.begun:
        preamble.system += texts
    elif texts and preserve:
        writer.system(texts)
    elif texts:
        writer.user([_reminder(texts)])


def _system_blocks(system: Any, ledger: Ledger) -> list[Block]:
    stripped = without_billing_header(system)
    if stripped is not system:
        ledger.drop("billing_header")
    return [block for block in blocks_of(stripped) if text_of(block)]


def _reminder(blocks: list[Block]) -> Block:
    text = "\n\n".join(map(text_of, blocks))
    return {"type": "text", "text": f"<system-reminder>\n{text}\n</system-reminder>"}
