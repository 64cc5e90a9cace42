"""The messages of a Chat Completions request, written in one pass over a conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from proxy.formats.openai_chat.assistant import AssistantText
from proxy.formats.openai_chat.content import Block, as_block, text_of
from proxy.formats.openai_chat.encoding import dump_text
from proxy.formats.openai_chat.identifiers import ToolIds
from proxy.formats.openai_chat.ledger import Ledger
from proxy.formats.openai_chat.media import Media, Part, text_part
from proxy.formats.openai_chat.pairing import Message, Pairing, name_of
from proxy.formats.openai_chat.profile import Profile
from proxy.formats.openai_chat.reasoning_history import ReasoningHistory
from proxy.formats.openai_chat.results import Results, keeps_cache_control

MISSING_RESULT = "[Tool result missing: the call was interrupted]"


class MessageWriter:
    """Takes a conversation, message by message; `finish` has the result.

    Adjacent messages of one role are one turn; one that says nothing leaves no
    trace. Behind every call stands a message for its result, which is filled in
    wherever the result is found.
    """

    def __init__(
        self, messages: list[Any], profile: Profile, reasoning: ReasoningHistory, ledger: Ledger
    ) -> None:
        self.pairs = Pairing(messages)
        self.calls: list[Message] = []  # the function of every call, still by the client's names
        self.loaded: list[str] = []  # the tools that searches have found
        self._system_role = profile.system_role
        self._signs = profile.thought_signature_sentinel
        self._reasoning = reasoning
        self._ledger = ledger
        self._outbound = ToolIds(profile.tool_id_style).outbound
        self._media = Media(profile, ledger)
        self._results = Results(profile, ledger, self._media, self.loaded)
        self._keep_cache_control = keeps_cache_control(profile)
        self._no_content = None if profile.assistant_null_content else profile.empty_content
        self._messages: list[Message] = []
        self._role = ""
        self._turns = 0
        # Of the turn under way: what a user shows and says ...
        self._shown: list[Part] = []  # media of tool results, which come first
        self._parts: list[Part] = []
        self._blank: list[Part] = []
        self._answered = False
        # ... or what an assistant does.
        self._text = AssistantText(ledger, self.loaded)
        self._calling: Message | None = None
        self._written: list[Message] = []  # the calls in it
        self._call_ids: list[str] = []

    @property
    def begun(self) -> bool:
        return self._turns > 0

    def user(self, content: list[Any]) -> None:
        for item in content:
            block = item if type(item) is dict else as_block(item)
            kind = block.get("type")
            if kind == "text" and not text_of(block):
                continue
            if self._role != "user":
                self._turn_to("user")
            if kind == "tool_result":
                self._result(block)
            elif kind == "text":
                part = self._text_part(block)
                (self._blank if part["text"].isspace() else self._parts).append(part)
            else:
                self._ledger.drop_cache_control(block)
                self._parts += self._media.parts(block)

    def assistant(self, content: list[Any]) -> None:
        for item in content:
            block = item if type(item) is dict else as_block(item)
            kind = block.get("type")
            text = text_of(block) if kind == "text" else None
            if text == "":
                continue
            if self._role != "assistant":
                self._turn_to("assistant")
            if "cache_control" in block:
                self._ledger.drop("cache_control")
            if text is not None:
                self._text.say(text)
            elif kind == "tool_use":
                self._call(block)
            else:
                self._text.add(kind, block)

    def system(self, blocks: list[Block]) -> None:
        """A system message that stays where it is."""
        if self._role != "system":
            self._turn_to("system")
        self._parts += map(self._text_part, blocks)

    def finish(
        self, system: Iterable[Block], instructions: Iterable[str], wire: Callable[[str], str]
    ) -> list[Message]:
        """All messages, behind the system prompt. `wire` names tools as the provider knows them."""
        self._turn_to("")
        for function in self.calls:
            function["name"] = wire(function["name"])
        if missing := self.pairs.unanswered():
            self._ledger.drop("tool_use.without_result", missing)
        parts = [*map(self._text_part, system), *map(text_part, instructions)]
        return self._system_message(parts) + self._messages

    def _turn_to(self, role: str) -> None:
        if self._role == "user":
            self._end_user()
        elif self._role == "assistant":
            self._end_assistant()
        elif self._role == "system":
            self._end_system()
        self._role = role
        self._turns += 1

    # -- the user's turn

    def _result(self, block: Block) -> None:
        message = self.pairs.answer(block)
        if message is None:
            self._parts += self._results.stray(block)
            return
        self._answered = True
        message["content"] = self._results.answer(block, message["tool_call_id"], self._shown)

    def _end_user(self) -> None:
        if self._shown or self._parts:
            self._add_user(_content(self._shown + self._parts))
            self._shown.clear()
            self._parts = []
        elif self._blank and not self._answered:
            self._add_user(_content(self._blank[:1]))
        if self._blank:
            self._blank.clear()
        self._answered = False

    def _add_user(self, content: str | list[Part]) -> None:
        last = self._messages[-1] if self._messages else None
        if last is not None and last["role"] == "user":
            last["content"] = _joined(last["content"], content)
        else:
            self._messages.append({"role": "user", "content": content})

    # -- the assistant's turn

    def _call(self, block: Block) -> None:
        """Writes a call, and the message for its result."""
        call_id = self.pairs.call(block, self._turns)
        tool_id, arguments = self._outbound(call_id), block.get("input")
        function = {
            "name": name_of(block),
            "arguments": "{}" if arguments is None else dump_text(arguments),
        }
        if self._calling is None:
            self._calling = self._assistant_message()
            self._calling["tool_calls"] = self._written = []
        self._written.append({"id": tool_id, "type": "function", "function": function})
        self.calls.append(function)
        self._call_ids.append(call_id)
        answer = {"role": "tool", "tool_call_id": tool_id, "content": MISSING_RESULT}
        self.pairs.waiting[call_id] = answer
        self._messages.append(answer)

    def _end_assistant(self) -> None:
        text, thinking = self._text.take()
        message, self._calling = self._calling, None
        if message is not None:
            if self._signs:
                self._sign(thinking)
            self._call_ids.clear()
        elif text:
            message = self._assistant_message()
        else:
            return
        message["content"] = (message["content"] or "") + text or self._no_content
        self._reasoning.add(message, thinking)

    def _sign(self, thinking: list[Block]) -> None:
        ids = [self.pairs.client_id(call_id) for call_id in self._call_ids]
        self._reasoning.sign(self._written, ids, thinking)

    def _assistant_message(self) -> Message:
        """A new message; the one before, if between the two a user has said nothing new."""
        last = self._messages[-1] if self._messages else None
        if last is not None and last["role"] == "assistant":
            return last
        message: Message = {"role": "assistant", "content": None}
        self._messages.append(message)
        return message

    # -- system messages

    def _end_system(self) -> None:
        self._messages += self._system_message(self._parts)
        self._parts = []

    def _system_message(self, parts: list[Part]) -> list[Message]:
        parts = [part for part in parts if part["text"]]
        if not parts:
            return []
        return [{"role": self._system_role, "content": _content(parts)}]

    def _text_part(self, block: Block) -> Part:
        part = text_part(text_of(block))
        if "cache_control" in block:
            if self._keep_cache_control:
                part["cache_control"] = block["cache_control"]
            else:
                self._ledger.drop("cache_control")
        return part


def _content(parts: list[Part]) -> str | list[Part]:
    """A string if it is all text, because not every server takes lists."""
    texts = [part["text"] for part in parts if len(part) == 2 and part["type"] == "text"]
    return "\n\n".join(texts) if len(texts) == len(parts) else parts


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [
        part
        for content in (first, second)
        for part in ([text_part(content)] if isinstance(content, str) else content)
    ]
