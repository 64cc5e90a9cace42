"""A streamed Chat Completion as the events of an Anthropic message, chunk by chunk."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from proxy import sse
from proxy.formats.estimate import text_weight
from proxy.formats.openai_chat import errors
from proxy.formats.openai_chat.block_queue import BlockQueue
from proxy.formats.openai_chat.context import ReplyContext
from proxy.formats.openai_chat.faults import is_error
from proxy.formats.openai_chat.identifiers import new_id
from proxy.formats.openai_chat.reading import (
    FAILED_FINISHES,
    REFUSAL,
    TEXT,
    ThinkTags,
    content_of,
    matched_stop,
    reasoning_of,
    stop_details,
    stop_reason,
)
from proxy.formats.openai_chat.response import MESSAGE_STOP, PING, message_delta, message_start
from proxy.formats.openai_chat.tool_calls import ToolCalls
from proxy.formats.openai_chat.usage import Counts, read_counts
from proxy.usage import Usage
from proxy.wire import ErrorReply

MAX_UNPARSEABLE = 20
MAX_PENDING = sse.MAX_BUFFERED
QUIET_AFTER_USAGE = 2.0
QUIET_AFTER_FINISH = 5.0
_STRONGER_FINISHES = ("tool_calls", "length")


class ChatStreamReader:
    """Implements `StreamReader` (see `proxy.formats.base`)."""

    pings = True

    def __init__(self, context: ReplyContext, usage: Usage) -> None:
        self.usage = usage
        self.content_begun = False
        self.complete = False
        self.error: ErrorReply | None = None
        self.quiet_end: float | None = None
        self._context = context
        self._parser = sse.PayloadParser()
        self._out: list[bytes] = []
        self._blocks = BlockQueue(context, self._emit)
        self._calls = ToolCalls(self._blocks)
        self._tags = ThinkTags() if context.profile.think_tags == "auto" else None
        self._started = False
        self._finish: str | None = None
        self._matched: object = None
        self._refusal: list[str] = []
        self._raw_usage: Any = None
        self._weight = 0.0  # estimated tokens of all that the model wrote
        self._unparseable = 0
        self._pending = 0  # characters taken in since something last went out

    def feed(self, data: bytes) -> bytes:
        if self.complete or self.error is not None:
            return b""
        try:
            payloads = self._parser.feed(data)
        except sse.BufferLimitExceeded as exceeded:
            self._fail_with(str(exceeded))
            return self._take_out()
        self._read(payloads)
        return self._take_out()

    def end(self) -> bytes:
        if self.complete or self.error is not None:
            return b""
        self._read(self._parser.finish())
        if self.error is None and not self.complete:
            if self._finish is not None:
                self._complete()
            else:
                self._counts().record(self.usage)
        return self._take_out()

    def _read(self, payloads: Iterable[sse.Payload]) -> None:
        for payload in payloads:
            if payload is sse.DONE:
                self._complete()
            elif payload is sse.GARBAGE:
                self._unparseable += 1
                if self._unparseable > MAX_UNPARSEABLE:
                    self._fail_with("the provider's stream cannot be read")
            else:
                self._chunk(payload.document, payload.event)
                if self._pending > MAX_PENDING:
                    self._fail_with("the provider's stream holds back too much")
            if self.complete or self.error is not None:
                return
        if self._finish is not None:
            self.quiet_end = QUIET_AFTER_USAGE if self._raw_usage else QUIET_AFTER_FINISH

    def _chunk(self, chunk: dict[str, Any], event: str) -> None:
        choices = chunk.get("choices")
        suspicious = chunk.get("error") or not choices or event == "error"
        if suspicious and (event == "error" or is_error(chunk)):
            self._fail(errors.embedded_error(_as_error(chunk), self._context.errors))
            return
        usage = chunk.get("usage")
        if usage and isinstance(usage, dict):
            self._raw_usage = usage
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            self._choice(choices[0])

    def _choice(self, choice: dict[str, Any]) -> None:
        finish = choice.get("finish_reason")
        if finish is not None or choice.get("error"):
            self._note_finish(choice, finish)
            if self.error is not None:
                return
        delta = choice.get("delta") or choice.get("message")
        if isinstance(delta, dict):
            self._delta(delta)
            self._blocks.pump()

    def _note_finish(self, choice: Mapping[str, Any], finish: object) -> None:
        if choice.get("error"):
            self._fail(errors.embedded_error({"error": choice["error"]}, self._context.errors))
            return
        if not isinstance(finish, str) or not finish:
            return
        if finish in FAILED_FINISHES:
            self._fail_with(f"the provider broke off the reply ({finish})", FAILED_FINISHES[finish])
            return
        if self._finish is None or (self._finish == "stop" and finish in _STRONGER_FINISHES):
            self._finish = finish
        matched = matched_stop(choice)
        if matched is not None:
            self._matched = matched
        if isinstance(choice.get("usage"), dict):  # Kimi
            self._raw_usage = choice["usage"]

    def _delta(self, delta: dict[str, Any]) -> None:
        content = delta.get("content")
        if len(delta) > 1 or content is None:
            self._reasoning(delta)
        if content:
            if isinstance(content, str):
                self._text(content)
            else:
                for kind, text in content_of(content):
                    self._part(kind, text)
        if len(delta) == 1 and content is not None:
            return
        if delta.get("refusal"):
            self._part(REFUSAL, delta["refusal"])
        self._tools(delta)

    def _part(self, kind: str, text: object) -> None:
        if not isinstance(text, str) or not text:
            return
        if kind == TEXT:
            self._text(text)
        elif kind == REFUSAL:
            self._refusal.append(text)
            self._say(text)
        else:
            self._think(text, "content")

    def _text(self, text: str) -> None:
        tags = self._tags
        if tags is None:
            self._say(text)
            return
        for kind, piece in tags.feed(text):
            if kind == TEXT:
                self._say(piece)
            elif piece:
                self._think(piece, "content")
        if tags.passed:
            self._tags = None

    def _say(self, text: str) -> None:
        self._weight += text_weight(text)
        self._pending += len(text)
        self._blocks.text(text)

    def _reasoning(self, delta: Mapping[str, Any]) -> None:
        text, source, details = reasoning_of(delta)
        if text:
            self._tags = None
            self._think(text, source)
        if details and self._context.thinking:
            block = self._blocks.open_thinking()
            if block is not None:
                block.add_details(details)

    def _think(self, text: str, source: str) -> None:
        """Reasoning that the client did not ask for is left out, but it did cost tokens."""
        self._weight += text_weight(text)
        if self._context.thinking:
            self._pending += len(text)
            self._blocks.thinking(text, source)

    def _tools(self, delta: Mapping[str, Any]) -> None:
        calls = delta.get("tool_calls")
        if isinstance(calls, dict):
            calls = [calls]
        if isinstance(calls, list):
            for call in calls:
                if isinstance(call, dict):
                    self._tool(call)
        legacy = delta.get("function_call")
        if isinstance(legacy, dict) and not calls:  # some servers say the same in both
            self._tool({"index": 0, "function": legacy})

    def _tool(self, call: Mapping[str, Any]) -> None:
        arguments = self._calls.add(call)
        self._weight += text_weight(arguments)
        self._pending += len(arguments)

    def _emit(self, data: bytes) -> None:
        self._pending = 0
        if not self._started:
            self._start()
        self._out.append(data)

    def _start(self) -> None:
        self._started = True
        known = Counts()
        if self._raw_usage is not None:
            known = read_counts(self._raw_usage, input_estimate=0, output_estimate=0)
        start = Counts(known.input, 0, known.cache_read, known.cache_creation)
        message: dict[str, Any] = {
            "id": new_id("msg_"),
            "type": "message",
            "role": "assistant",
            "model": self._context.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": start.as_usage(),
        }
        self._out += [message_start(message), PING]

    def _complete(self) -> None:
        """The reply came to its end: closes all blocks and the message."""
        tags, self._tags = self._tags, None
        for kind, piece in tags.finish() if tags is not None else ():
            self._part(kind, piece)
        reason, _ = self._stop()
        self._blocks.finish(truncated=reason == "max_tokens")
        reason, sequence = self._stop()
        counts = self._counts()
        counts.record(self.usage)
        delta = {
            "stop_reason": reason,
            "stop_sequence": sequence,
            **stop_details(reason, "".join(self._refusal)),
        }
        self._emit(message_delta(delta, counts.as_usage()))
        self._out.append(MESSAGE_STOP)
        self.complete = True
        self.quiet_end = None

    def _stop(self) -> tuple[str, str | None]:
        return stop_reason(
            self._finish,
            refused=bool(self._refusal),
            used_tool=self._blocks.used_tool,
            matched=self._matched,
            requested=self._context.stop_sequences,
        )

    def _counts(self) -> Counts:
        return read_counts(
            self._raw_usage,
            input_estimate=self._context.input_estimate,
            output_estimate=math.ceil(self._weight),
        )

    def _fail_with(self, message: str, status: int = errors.BAD_GATEWAY) -> None:
        self._fail(errors.plain_error(status, message, self._context.errors))

    def _fail(self, reply: ErrorReply) -> None:
        self.error = reply
        self.quiet_end = None
        self._counts().record(self.usage)
        self._out.append(errors.error_event(reply))

    def _take_out(self) -> bytes:
        self.content_begun = self._blocks.begun
        out = b"".join(self._out)
        self._out.clear()
        return out


def _as_error(chunk: dict[str, Any]) -> dict[str, Any]:
    """The chunk in the shape of an error body; after `event: error` the payload is the error."""
    return chunk if is_error(chunk) else {"error": chunk}
