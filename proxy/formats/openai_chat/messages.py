"""Turns to Chat Completions messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from proxy.formats.openai_chat.content import Block, text_of
from proxy.formats.openai_chat.conversation import Conversation, Turn
from proxy.formats.openai_chat.encoding import dump_text
from proxy.formats.openai_chat.identifiers import ToolIds, ToolNames
from proxy.formats.openai_chat.ledger import Ledger
from proxy.formats.openai_chat.media import Media, Part, text_part
from proxy.formats.openai_chat.profile import Profile
from proxy.formats.openai_chat.reasoning_history import ReasoningHistory
from proxy.formats.openai_chat.results import Results, keeps_cache_control
from proxy.formats.openai_chat.server_tools import flatten, is_server_tool

Message = dict[str, Any]
MISSING_RESULT = "[Tool result missing: the call was interrupted]"
PARAGRAPH = "\n\n"


class MessageWriter:
    """Writes the messages of one request."""

    def __init__(
        self,
        conversation: Conversation,
        profile: Profile,
        names: ToolNames,
        reasoning: ReasoningHistory,
        ledger: Ledger,
    ) -> None:
        self._conversation = conversation
        self._pairs = conversation.pairs
        self._profile = profile
        self._names = names
        self._reasoning = reasoning
        self._ids = ToolIds(profile.tool_id_style)
        self._ledger = ledger
        self._media = Media(profile, ledger)
        self._results = Results(profile, ledger, self._media)
        self._no_content = None if profile.assistant_null_content else profile.empty_content
        self._keep_cache_control = keeps_cache_control(profile)
        self._messages: list[Message] = []
        self._shown: list[Part] = []  # media of tool results, waiting for a user message

    def write(self, extra_system: Iterable[str] = ()) -> list[Message]:
        self._write_system(self._conversation.system, extra_system)
        for turn in self._conversation.turns:
            if turn.role == "assistant":
                self._write_assistant(turn)
            elif turn.role == "system":
                self._write_system(turn.blocks)
            elif turn.blocks or self._shown:
                self._write_user(turn)
        self._add_user([])
        return self._messages

    def _write_system(self, blocks: list[Block], extra: Iterable[str] = ()) -> None:
        parts = [part for block in blocks if (part := self._text(block))["text"]]
        parts += map(text_part, extra)
        if parts:
            content = self._content(parts)
            self._messages.append({"role": self._profile.system_role, "content": content})

    def _write_user(self, turn: Turn) -> None:
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
        texts = [part["text"] for part in parts if len(part) == 2 and part["type"] == "text"]
        return PARAGRAPH.join(texts) if len(texts) == len(parts) else parts

    def _text(self, block: Block) -> Part:
        text = block.get("text")
        part: Part = {"type": "text", "text": text if isinstance(text, str) else ""}
        if "cache_control" in block:
            if self._keep_cache_control:
                part["cache_control"] = block["cache_control"]
            else:
                self._ledger.drop("cache_control")
        return part

    def _write_assistant(self, turn: Turn) -> None:
        text, thinking = self._assistant_text(turn.blocks)
        if text.isspace():
            text = ""
        if not turn.calls and not text:
            return
        message: Message = {"role": "assistant", "content": text or self._no_content}
        self._reasoning.add(message, thinking)
        if not turn.calls:
            self._append_assistant(message)
            return
        calls: list[Message] = []
        message["tool_calls"] = calls
        self._append_assistant(message)
        self._write_calls(turn.calls, calls)
        if self._profile.thought_signature_sentinel:
            ids = [self._pairs.client_id(call["id"]) for call in turn.calls]
            self._reasoning.sign(calls, ids, thinking)

    def _write_calls(self, calls: list[Block], written: list[Message]) -> None:
        """Adds the calls to `written`, and a message with the result of each to the others."""
        outbound, wire, results = self._ids.outbound, self._names.wire, self._pairs.results
        for call in calls:
            call_id, arguments = call["id"], call.get("input")
            tool_id, result = outbound(call_id), results[call_id]
            function = {
                "name": wire(call["name"]),
                "arguments": "{}" if arguments is None else dump_text(arguments),
            }
            written.append({"id": tool_id, "type": "function", "function": function})
            if "cache_control" in call:
                self._ledger.drop("cache_control")
            content: str | list[Part] = MISSING_RESULT
            if result is None:
                self._ledger.drop("tool_use.without_result")
            else:
                content = self._results.answer(result, tool_id, self._shown)
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

    def _assistant_text(self, blocks: list[Block]) -> tuple[str, list[Block]]:
        """The content of an assistant's turn, and its thinking blocks."""
        texts: list[str] = []
        thinking: list[Block] = []
        for block in blocks:
            kind = block.get("type")
            if "cache_control" in block:
                self._ledger.drop("cache_control")
            if kind == "text":
                texts.append(text_of(block))
            elif kind == "thinking":
                thinking.append(block)
            else:
                self._tell_other(block, kind, texts)
        if texts and texts[-1] == PARAGRAPH:
            texts.pop()
        return "".join(texts), thinking

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
