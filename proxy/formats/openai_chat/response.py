"""A whole Chat Completion as an Anthropic message, and a message as the events of a stream."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson

from proxy.errors import InvalidReply, UpstreamRefused
from proxy.formats import envelope
from proxy.formats.estimate import text_weight
from proxy.formats.openai_chat.arguments import parse_arguments
from proxy.formats.openai_chat.context import ReplyContext
from proxy.formats.openai_chat.encoding import dump, dump_text
from proxy.formats.openai_chat.errors import embedded_error, plain_error
from proxy.formats.openai_chat.faults import is_error
from proxy.formats.openai_chat.identifiers import ClientIds, new_id
from proxy.formats.openai_chat.reading import (
    FAILED_FINISHES,
    REFUSAL,
    TEXT,
    THINKING,
    ThinkTags,
    content_of,
    matched_stop,
    reasoning_of,
    stop_details,
    stop_reason,
    thought_signature,
)
from proxy.formats.openai_chat.usage import Counts, read_counts
from proxy.sse import frame, loads

Block = dict[str, Any]


def message_document(
    model: str, content: list[Block], stop: Mapping[str, Any], counts: Counts
) -> dict[str, Any]:
    """An Anthropic message; `stop` has the stop reason and what belongs to it."""
    return {
        "id": new_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        **stop,
        "usage": counts.as_usage(),
    }


def read_completion(body: bytes, context: ReplyContext) -> tuple[dict[str, Any], Counts]:
    """The message that a body holds. Raises `InvalidReply` or `UpstreamRefused`."""
    completion = loads(body)
    if is_error(completion):
        raise UpstreamRefused(embedded_error(completion, context.errors))
    if not isinstance(completion, dict):
        raise InvalidReply("the provider answered with something that is no JSON object")
    choices = completion.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        raise InvalidReply("the provider's answer holds no message")
    _check_finish(choice, context)
    reader = _MessageReader(context)
    content = reader.read(choice["message"])
    reason, sequence = stop_reason(
        choice.get("finish_reason"),
        refused=reader.refusal is not None,
        used_tool=any(block["type"] == "tool_use" for block in content),
        matched=matched_stop(choice),
        requested=context.stop_sequences,
    )
    counts = read_counts(
        completion.get("usage") or choice.get("usage"),
        input_estimate=context.input_estimate,
        output_estimate=math.ceil(reader.weight),
    )
    stop = {
        "stop_reason": reason,
        "stop_sequence": sequence,
        **stop_details(reason, reader.refusal or ""),
    }
    return message_document(context.model, content, stop, counts), counts


def as_events(message: Mapping[str, Any]) -> bytes:
    """A whole message as the stream that would have told it."""
    usage = message["usage"]
    start = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
    start.pop("stop_details", None)
    start["usage"] = {**usage, "output_tokens": 0}
    start["usage"].pop("output_tokens_details", None)
    frames = [message_start(start), PING]
    for index, block in enumerate(message["content"]):
        frames += _block_events(index, block)
    stop = ("stop_reason", "stop_sequence", "stop_details")
    delta = {key: message[key] for key in stop if key in message}
    frames += [message_delta(delta, usage), MESSAGE_STOP]
    return b"".join(frames)


PING = frame("ping", {"type": "ping"})
MESSAGE_STOP = frame("message_stop", {"type": "message_stop"})


def message_start(message: Mapping[str, Any]) -> bytes:
    return frame("message_start", {"type": "message_start", "message": message})


def message_delta(delta: Mapping[str, Any], usage: Mapping[str, Any]) -> bytes:
    return _event({"type": "message_delta", "delta": delta, "usage": usage})


def block_start(index: int, block: Mapping[str, Any]) -> bytes:
    return _event({"type": "content_block_start", "index": index, "content_block": block})


def block_delta(index: int, delta: Mapping[str, Any]) -> bytes:
    return _event({"type": "content_block_delta", "index": index, "delta": delta})


def block_stop(index: int) -> bytes:
    return _event({"type": "content_block_stop", "index": index})


def _event(payload: Mapping[str, Any]) -> bytes:
    try:
        return frame(payload["type"], payload)
    except orjson.JSONEncodeError:  # lone surrogates of the upstream's
        return b"event: %b\ndata: %b\n\n" % (payload["type"].encode(), dump(payload))


def _block_events(index: int, block: Block) -> list[bytes]:
    match block["type"]:
        case "text":
            start: Block = {"type": "text", "text": ""}
            deltas: list[Block] = [{"type": "text_delta", "text": block["text"]}]
        case "thinking":
            start = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [{"type": "signature_delta", "signature": block["signature"]}]
            if block["thinking"]:
                deltas.insert(0, {"type": "thinking_delta", "thinking": block["thinking"]})
        case _:
            start = {**block, "input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": dump_text(block["input"])}]
    frames = [block_delta(index, delta) for delta in deltas]
    return [block_start(index, start), *frames, block_stop(index)]


def _check_finish(choice: Mapping[str, Any], context: ReplyContext) -> None:
    if choice.get("error"):
        raise UpstreamRefused(embedded_error({"error": choice["error"]}, context.errors))
    finish = choice.get("finish_reason")
    status = FAILED_FINISHES.get(finish) if isinstance(finish, str) else None
    if status is not None:
        message = f"the provider broke off the reply ({finish})"
        raise UpstreamRefused(plain_error(status, message, context.errors))


class _MessageReader:
    """Reads one message into content blocks: thinking, then text, then tools."""

    def __init__(self, context: ReplyContext) -> None:
        self._context = context
        self._ids = ClientIds(context.tool_ids)
        self._signatures: dict[str, str] = {}
        self.refusal: str | None = None
        self.weight = 0.0  # estimated tokens of all that the model wrote

    def read(self, message: Mapping[str, Any]) -> list[Block]:
        reasoning, source, details = reasoning_of(message)
        thoughts, texts = self._texts(message, tags=not reasoning)
        if not reasoning.strip():
            reasoning, source = "".join(thoughts), "content"
        tools = self._tools(message)
        self.weight += text_weight(reasoning) + sum(map(text_weight, texts))
        content = self._thinking(reasoning, source, details)
        content += [{"type": "text", "text": text} for text in texts if text.strip()]
        return content + tools

    def _texts(self, message: Mapping[str, Any], *, tags: bool) -> tuple[list[str], list[str]]:
        """Thinking found in the content, and the texts: what was said, what was refused."""
        thoughts: list[str] = []
        said: list[str] = []
        refused: list[str] = []
        splitter = ThinkTags() if tags and self._context.profile.think_tags == "auto" else None
        for kind, text in content_of(message.get("content")):
            if kind == TEXT and splitter is not None:
                for inner, piece in (*splitter.feed(text),):
                    (thoughts if inner == THINKING else said).append(piece)
            else:
                {TEXT: said, THINKING: thoughts, REFUSAL: refused}[kind].append(text)
        for inner, piece in splitter.finish() if splitter is not None else ():
            (thoughts if inner == THINKING else said).append(piece)
        if isinstance(message.get("refusal"), str):
            refused.append(message["refusal"])
        if any(refused):
            self.refusal = "".join(refused)
        return thoughts, ["".join(said), "".join(refused)]

    def _thinking(self, text: str, source: str, details: list[Any]) -> list[Block]:
        if not self._context.thinking or not text.strip():
            return []
        omitted = self._context.thinking_omitted
        signature = envelope.mint(
            envelope.Provenance(
                provider=self._context.provider,
                source=source,
                text=text if omitted else None,
                details=details,
                thought_signatures=self._signatures,
            )
        )
        return [{"type": "thinking", "thinking": "" if omitted else text, "signature": signature}]

    def _tools(self, message: Mapping[str, Any]) -> list[Block]:
        calls = message.get("tool_calls")
        calls = calls if isinstance(calls, list) else [calls]
        if not any(calls):  # some servers say the same in both
            calls = [{"function": message.get("function_call")}]
        return [block for call in calls if (block := self._tool(call)) is not None]

    def _tool(self, call: Any) -> Block | None:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            return None
        name, arguments = function.get("name"), function.get("arguments")
        if not name and not arguments:
            return None
        value = parse_arguments(arguments)
        tool_id = self._ids.claim(call.get("id"))
        if signature := thought_signature(call):
            self._signatures[tool_id] = signature
        self.weight += text_weight(arguments if isinstance(arguments, str) else dump_text(value))
        return {
            "type": "tool_use",
            "id": tool_id,
            "name": self._context.client_tool_name(name),
            "input": value or {},
        }
