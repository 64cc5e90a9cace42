"""The content blocks of a stream under way: what is known of each, and what of it was told."""

from __future__ import annotations

from typing import Any

import orjson

from proxy.formats import envelope
from proxy.formats.openai_chat.arguments import ArgumentScanner, parse_arguments
from proxy.formats.openai_chat.context import ReplyContext
from proxy.formats.openai_chat.encoding import dump_text, mend
from proxy.formats.openai_chat.identifiers import ClientIds
from proxy.formats.openai_chat.response import block_delta, block_start, block_stop

Payload = dict[str, Any]
_DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
    b'"delta":{"type":"%b","%b":'
)
_DELTA_END = b"}}\n\n"
_MAX_KEPT = 64 * 1024
"""Characters of a call's arguments that are kept, once they are told, to mend a missing end."""


class Block:
    """One block. `delta` names the type of its deltas and the field with their text."""

    delta: tuple[bytes, bytes]

    def __init__(self) -> None:
        self.index = -1  # its index on the wire, once it is open
        self._waiting: list[str] = []
        self._carry = ""  # half an emoji, whose other half is to come
        self._prefix = b""

    @property
    def is_open(self) -> bool:
        return self.index >= 0

    @property
    def closable(self) -> bool:
        return True

    def openable(self, *, others_behind: bool, final: bool) -> bool:
        return True

    def start(self) -> Payload:
        raise NotImplementedError

    def last_deltas(self, *, truncated: bool) -> list[Payload]:
        """What is left to say right before the block ends."""
        return []

    def append(self, text: str) -> None:
        self._waiting.append(text)

    def open(self, index: int) -> bytes:
        self.index = index
        self._prefix = _DELTA % (index, *self.delta)
        return block_start(index, self.start())

    def flush(self) -> bytes:
        """One delta with all that waits, b"" if nothing does."""
        if not self._waiting:
            return b""
        text = self._carry + "".join(self._waiting)
        self._waiting.clear()
        self._carry = ""
        return self._encode(text) if text else b""

    def close(self, *, truncated: bool) -> bytes:
        carry, self._carry = self._carry, ""
        frames = [self._encode(mend(carry))] if carry else []
        frames += [
            block_delta(self.index, delta) for delta in self.last_deltas(truncated=truncated)
        ]
        return b"".join((*frames, block_stop(self.index)))

    def _encode(self, text: str) -> bytes:
        try:
            encoded = orjson.dumps(text)
        except orjson.JSONEncodeError:
            if "\ud800" <= text[-1] <= "\udbff":
                self._carry, text = text[-1], text[:-1]
            if not text:
                return b""
            encoded = orjson.dumps(mend(text))
        return self._prefix + encoded + _DELTA_END


class TextBlock(Block):
    delta = (b"text_delta", b"text")

    def start(self) -> Payload:
        return {"type": "text", "text": ""}


class ThinkingBlock(Block):
    delta = (b"thinking_delta", b"thinking")

    def __init__(self, context: ReplyContext, source: str) -> None:
        super().__init__()
        self._context = context
        self._source = source
        self._kept: list[str] = []  # the text, if only the signature may carry it
        self.details: list[Any] = []
        self.thought_signatures: dict[str, str] = {}

    def append(self, text: str) -> None:
        (self._kept if self._context.thinking_omitted else self._waiting).append(text)

    def start(self) -> Payload:
        return {"type": "thinking", "thinking": "", "signature": ""}

    def last_deltas(self, *, truncated: bool) -> list[Payload]:
        omitted = self._context.thinking_omitted
        provenance = envelope.Provenance(
            provider=self._context.provider,
            source=self._source,
            text=mend("".join(self._kept)) if omitted else None,
            details=self.details,
            thought_signatures=self.thought_signatures,
        )
        return [{"type": "signature_delta", "signature": envelope.mint(provenance)}]

    def add_details(self, details: list[Any]) -> None:
        """Adds reasoning details; the pieces of one detail are put together again."""
        for detail in details:
            last = self.details[-1] if self.details else None
            if isinstance(detail, dict) and isinstance(last, dict) and _same_detail(last, detail):
                _extend_detail(last, detail)
            else:
                self.details.append(dict(detail) if isinstance(detail, dict) else detail)


class ToolBlock(Block):
    """A tool call under way. `raw_id` and `name` are the upstream's, "" while unknown."""

    delta = (b"input_json_delta", b"partial_json")

    def __init__(self, context: ReplyContext, ids: ClientIds) -> None:
        super().__init__()
        self._context = context
        self._ids = ids
        self._client_id = ""
        self._arguments: list[str] = []
        self._length = 0
        self._scanner = ArgumentScanner()
        self.raw_id = ""
        self.name = ""

    @property
    def complete(self) -> bool:
        return self._scanner.complete

    @property
    def has_arguments(self) -> bool:
        return self._scanner.started

    @property
    def closable(self) -> bool:
        return self._scanner.complete

    @property
    def is_nothing(self) -> bool:
        """Neither a name nor arguments: no call."""
        return not self.name and not self.has_arguments

    def openable(self, *, others_behind: bool, final: bool) -> bool:
        if final:
            return True
        if not self.name:
            return False
        if self._context.profile.buffer_tool_args and not self.complete:
            return False
        return bool(self.raw_id) or self.complete or others_behind

    def start(self) -> Payload:
        name = self._context.client_tool_name(self.name)
        return {"type": "tool_use", "id": self.claim_id(), "name": name, "input": {}}

    def claim_id(self) -> str:
        if not self._client_id:
            self._client_id = self._ids.claim(self.raw_id)
        return self._client_id

    def append(self, text: str) -> None:
        if self._is_placeholder() and text.lstrip().startswith("{"):
            self._scanner = ArgumentScanner()
            self._arguments.clear()
            self._waiting.clear()
        text = self._scanner.feed(text)
        if text:
            self._arguments.append(text)
            self._waiting.append(text)
            self._length += len(text)

    def flush(self) -> bytes:
        """Passes on what can only be part of an object; the rest waits for the end."""
        if not self._scanner.is_object or self._is_placeholder():
            return b""
        if self._context.profile.buffer_tool_args and self._waiting:
            if not self.complete:
                return b""
            mended = dump_text(parse_arguments("".join(self._arguments)) or {})
            self._arguments, self._waiting = [mended], [mended]
        if self._length > _MAX_KEPT:
            self._arguments.clear()
        return super().flush()

    def last_deltas(self, *, truncated: bool) -> list[Payload]:
        told = self._scanner.is_object and not self._waiting
        arguments = "".join(self._arguments)
        if told and self._length > _MAX_KEPT:
            rest = "" if truncated else self._scanner.closing()
        elif told:
            rest = "" if truncated else self._scanner.missing_end(arguments)
        elif truncated and self._scanner.is_object:
            rest = arguments
        else:
            rest = dump_text(parse_arguments(arguments) or {})
        return [{"type": "input_json_delta", "partial_json": rest}] if rest else []

    def _is_placeholder(self) -> bool:
        """`{}` so far: some servers send that before the arguments proper."""
        return (
            self.complete
            and 0 < len(self._arguments) == len(self._waiting) <= 2
            and "".join(self._arguments).strip() == "{}"
        )


def _same_detail(last: Payload, detail: Payload) -> bool:
    return last.get("type") == detail.get("type") and last.get("index") == detail.get("index")


def _extend_detail(last: Payload, detail: Payload) -> None:
    for key, value in detail.items():
        if key in ("text", "summary", "data") and isinstance(last.get(key), str):
            last[key] += value if isinstance(value, str) else ""
        elif value is not None:
            last[key] = value
