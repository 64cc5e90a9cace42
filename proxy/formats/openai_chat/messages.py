"""Turns to Chat Completions messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from proxy.formats import envelope
from proxy.formats.openai_chat.conversation import (
    Block,
    Conversation,
    Turn,
    text_of,
)
from proxy.formats.openai_chat.encoding import dump_text
from proxy.formats.openai_chat.identifiers import ToolIds, ToolNames
from proxy.formats.openai_chat.ledger import Ledger
from proxy.formats.openai_chat.media import Media, Part, text_part
from proxy.formats.openai_chat.profile import Profile
from proxy.formats.openai_chat.results import Results, keeps_cache_control
from proxy.formats.openai_chat.server_tools import flatten, is_server_tool

Message = dict[str, Any]
MISSING_RESULT = "[Tool result missing: the call was interrupted]"
PARAGRAPH = "\n\n"
REASONING_UNKNOWN = "(reasoning not recorded)"
THOUGHT_SIGNATURE_SENTINEL = "skip_thought_signature_validator"
"""What Gemini accepts for a call that another model made (Gemini API docs, thought signatures)."""


class MessageWriter:
    """Writes the messages of one request."""

    def __init__(
        self,
        profile: Profile,
        provider: str,
        names: ToolNames,
        ledger: Ledger,
        *,
        reasoning_off: bool,
    ) -> None:
        self._profile = profile
        self._provider = provider
        self._names = names
        self._ids = ToolIds(profile.tool_id_style)
        self._ledger = ledger
        self._media = Media(profile, ledger)
        self._results = Results(profile, ledger, self._media)
        self._history = profile.reasoning_history
        self._no_content = None if profile.assistant_null_content else profile.empty_content
        filler = profile.reasoning_filler
        self._fill_reasoning = not reasoning_off if filler is None else filler
        self._keep_cache_control = keeps_cache_control(profile)
        self._messages: list[Message] = []
        self._answers: Mapping[str, Block | None] = {}
        self._renamed: Mapping[str, str] = {}
        self._shown: list[Part] = []  # media of tool results, waiting for a user message

    def write(self, conversation: Conversation, extra_system: Iterable[str] = ()) -> list[Message]:
        self._answers, self._renamed = conversation.results, conversation.renamed
        self._write_system(conversation.system, extra_system)
        for turn in conversation.turns:
            if turn.role == "assistant":
                self._write_assistant(turn)
            elif turn.role == "user":
                self._write_user(turn)
            else:
                self._write_system(turn.blocks)
        self._add_user([])
        return self._messages

    def _write_system(self, blocks: list[Block], extra: Iterable[str] = ()) -> None:
        parts = [part for block in blocks if (part := self._text(block))["text"]]
        parts += map(text_part, extra)
        if parts:
            content = self._content(parts)
            self._messages.append({"role": self._profile.system_role, "content": content})

    def _write_user(self, turn: Turn) -> None:
        if not turn.blocks and not self._shown:
            return
        parts: list[Part] = []
        blank: list[Part] = []
        for block in turn.blocks:
            match block.get("type"):
                case "text":
                    part = self._text(block)
                    (parts if part["text"] and not part["text"].isspace() else blank).append(part)
                case "tool_result":
                    parts += self._results.stray(block)
                case _:
                    self._ledger.drop_cache_control(block)
                    parts += self._media.parts(block)
        if not parts and not self._shown and not turn.answers:
            parts = [part for part in blank if part["text"]][:1]
        self._add_user(parts)

    def _add_user(self, parts: list[Part]) -> None:
        parts, self._shown = self._shown + parts, []
        if not parts:
            return
        content = self._content(parts)
        last = self._messages[-1] if self._messages else None
        if last is not None and last["role"] == "user":
            last["content"] = self._joined(last["content"], content)
        else:
            self._messages.append({"role": "user", "content": content})

    def _joined(self, first: Any, second: Any) -> Any:
        if isinstance(first, str) and isinstance(second, str):
            return f"{first}\n\n{second}"
        return [
            part
            for content in (first, second)
            for part in ([text_part(content)] if isinstance(content, str) else content)
        ]

    def _content(self, parts: list[Part]) -> str | list[Part]:
        """A string if it is all text, because not every server takes lists."""
        if all(len(part) == 2 and part["type"] == "text" for part in parts):
            return parts[0]["text"] if len(parts) == 1 else "\n\n".join([p["text"] for p in parts])
        return parts

    def _text(self, block: Block) -> Part:
        part = text_part(text_of(block))
        if "cache_control" in block:
            if self._keep_cache_control:
                part["cache_control"] = block["cache_control"]
            else:
                self._ledger.drop("cache_control")
        return part

    def _write_assistant(self, turn: Turn) -> None:
        text, thinking, calls = self._read_assistant(turn.blocks)
        if text.isspace():
            text = ""
        if not calls and not text:
            return
        message: Message = {"role": "assistant", "content": text or self._no_content}
        if self._history != "none":
            self._add_reasoning(message, thinking)
        elif thinking:
            self._ledger.drop("thinking", len(thinking))
        if not calls:
            self._append_assistant(message)
            return
        written = message["tool_calls"] = []
        self._append_assistant(message)
        self._write_calls(calls, written)
        if self._profile.thought_signature_sentinel:
            self._add_thought_signatures(written, calls, thinking)

    def _write_calls(self, calls: list[Block], written: list[Message]) -> None:
        """Adds the calls to `written`, and a message with the result of each."""
        for call in calls:
            tool_id = self._ids.outbound(call["id"])
            arguments = call.get("input")
            function = {
                "name": self._names.wire(call["name"]),
                "arguments": "{}" if arguments is None else dump_text(arguments),
            }
            written.append({"id": tool_id, "type": "function", "function": function})
            result = self._answers[call["id"]]
            content: str | list[Part] = MISSING_RESULT
            if result is None:
                self._ledger.drop("tool_use.without_result")
            else:
                content, shown = self._results.answer(result, tool_id)
                self._shown += shown
            self._messages.append({"role": "tool", "tool_call_id": tool_id, "content": content})

    def _append_assistant(self, message: Message) -> None:
        """Adds a message, to the one before if that is the assistant's too."""
        if self._shown:
            self._add_user([])
        last = self._messages[-1] if self._messages else None
        if last is None or last["role"] != "assistant":
            self._messages.append(message)
            return
        last["content"] = (last["content"] or "") + (message["content"] or "")
        for key in ("reasoning_content", "reasoning", "reasoning_details", "tool_calls"):
            if key in message:
                last[key] = message[key]

    def _read_assistant(self, blocks: list[Block]) -> tuple[str, list[Block], list[Block]]:
        """The text of an assistant's turn, its thinking blocks, and its calls."""
        texts: list[str] = []
        thinking: list[Block] = []
        calls: list[Block] = []
        for block in blocks:
            kind = block.get("type")
            if "cache_control" in block:
                self._ledger.drop("cache_control")
            if kind == "tool_use":
                calls.append(block)
            elif kind == "text":
                texts.append(text_of(block))
            elif kind == "thinking":
                thinking.append(block)
            else:
                self._tell_other(block, kind, texts)
        if texts and texts[-1] == PARAGRAPH:
            texts.pop()
        return (texts[0] if len(texts) == 1 else "".join(texts)), thinking, calls

    def _tell_other(self, block: Block, kind: object, texts: list[str]) -> None:
        """Adds what a block of the rarer types says to `texts`, as a paragraph."""
        if is_server_tool(kind):
            told: object = flatten(block)
        elif kind == "compaction":
            told = block.get("content")
        else:
            self._ledger.drop(f"content.{kind}")
            return
        if isinstance(told, str) and told:
            if texts and texts[-1] != PARAGRAPH:
                texts.append(PARAGRAPH)
            texts += [told, PARAGRAPH]

    def _add_reasoning(self, message: Message, thinking: list[Block]) -> None:
        history = self._history
        texts, details = self._reasoning(thinking)
        text = "\n\n".join(texts)
        if history == "reasoning_details":
            if details:
                message["reasoning_details"] = details
            elif text:
                message["reasoning"] = text
        elif text:
            message[history] = text
        elif history == "reasoning_content" and self._fill_reasoning:
            message[history] = REASONING_UNKNOWN

    def _reasoning(self, thinking: list[Block]) -> tuple[list[str], list[Any]]:
        texts: list[str] = []
        details: list[Any] = []
        for block in thinking:
            provenance = envelope.read(block.get("signature"))
            if provenance is None and self._profile.reasoning_accept != "any":
                self._ledger.drop("thinking")
                continue
            text = block.get("thinking")
            if provenance is not None and provenance.text is not None:
                text = provenance.text
            if isinstance(text, str) and text:
                texts.append(text)
            if provenance is not None and provenance.provider == self._provider:
                details += provenance.details
        return texts, details

    def _add_thought_signatures(
        self, written: list[Message], calls: list[Block], thinking: list[Block]
    ) -> None:
        """Gemini's own signatures back to it; the first call of a turn must have one."""
        known: dict[str, str] = {}
        for block in thinking:
            provenance = envelope.read(block.get("signature"))
            if provenance is not None and provenance.provider == self._provider:
                known |= provenance.thought_signatures
        for number, (message, call) in enumerate(zip(written, calls, strict=True)):
            client_id = self._renamed.get(call["id"], call["id"])
            signature = known.get(client_id) or ("" if number else THOUGHT_SIGNATURE_SENTINEL)
            if signature:
                message["extra_content"] = {"google": {"thought_signature": signature}}
