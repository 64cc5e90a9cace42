"""What the workloads send and what their upstream answers: fixed bytes, made once."""

from __future__ import annotations

import json
import random
from typing import Any

MODEL = "claude-sonnet-4-5"
EVENTS = 300
LARGE = 256 * 1024
_WORDS = (
    "the",
    "proxy",
    "asks",
    "one",
    "provider",
    "after",
    "the",
    "other",
    "until",
    "it",
    "answers",
)


def _text(size: int, seed: int) -> str:
    """Prose of `size` characters; the same for the same seed."""
    words = random.Random(seed)
    parts: list[str] = []
    length = 0
    while length < size:
        parts.append(words.choice(_WORDS))
        length += len(parts[-1]) + 1
    return " ".join(parts)[:size]


def small_request(*, stream: bool = False) -> bytes:
    """1 KB."""
    return _request(stream=stream, messages=[{"role": "user", "content": _text(880, 1)}])


def large_request(*, cached: bool = True) -> bytes:
    """256 KB: a system prompt, tools and a history of tool calls, as Claude Code sends them.

    Without `cached`, no cache marks: not every gateway's conversion takes them.
    """
    mark = {"cache_control": {"type": "ephemeral"}} if cached else {}
    fixed: dict[str, Any] = {
        "system": [{"type": "text", "text": _text(12_000, 2), **mark}],
        "tools": [_tool(number) for number in range(16)],
    }
    size = len(_request(stream=True, messages=[], **fixed))
    messages: list[dict[str, Any]] = []
    while size < LARGE - 4_000:
        turn = _turn(len(messages))
        messages += turn
        size += len(json.dumps(turn))
    last = {"type": "text", "text": _text(max(1, LARGE - size - 100), 3)}
    messages.append({"role": "user", "content": [last]})
    return _request(stream=True, messages=messages, **fixed)


def _request(*, stream: bool, **fields: Any) -> bytes:
    document = {"model": MODEL, "max_tokens": 1024, **fields}
    if stream:
        document["stream"] = True
    return json.dumps(document).encode()


def _tool(number: int) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {
            name: {"type": "string", "description": _text(120, number)} for name in ("path", "text")
        },
        "required": ["path"],
    }
    return {
        "name": f"Tool{number}",
        "description": _text(900, 100 + number),
        "input_schema": schema,
    }


def _turn(number: int) -> list[dict[str, Any]]:
    """One tool call and its result."""
    use_id = f"toolu_{number:024d}"
    path = f"src/module_{number}.py"
    return [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": _text(200, 200 + number)},
                {"type": "tool_use", "id": use_id, "name": "Tool1", "input": {"path": path}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": use_id,
                    "content": "\n".join(_text(70, n) for n in range(number, number + 40)),
                }
            ],
        },
    ]


def message_reply() -> bytes:
    """A whole answer of 1 KB in Anthropic's shape."""
    message = {
        "id": "msg_01benchmark",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": _text(720, 4)}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 250, "output_tokens": 180},
    }
    return json.dumps(message).encode()


def error_reply() -> bytes:
    error = {"type": "rate_limit_error", "message": "This request would exceed your rate limit."}
    return json.dumps({"type": "error", "error": error}).encode()


def openai_error_reply() -> bytes:
    error = {"type": "rate_limit_exceeded", "message": "Rate limit reached.", "code": "429"}
    return json.dumps({"error": error}).encode()


def _event(kind: str, **fields: Any) -> bytes:
    payload = json.dumps({"type": kind, **fields})
    return f"event: {kind}\ndata: {payload}\n\n".encode()


def stream_start() -> bytes:
    message: dict[str, Any] = {
        "id": "msg_01benchmark",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 60_000, "output_tokens": 1},
    }
    block = {"type": "text", "text": ""}
    return _event("message_start", message=message) + _event(
        "content_block_start", index=0, content_block=block
    )


def stream_delta(text: str) -> bytes:
    return _event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def stream_end() -> bytes:
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    return (
        _event("content_block_stop", index=0)
        + _event("message_delta", delta=delta, usage={"output_tokens": EVENTS})
        + _event("message_stop")
    )


def stream_reply() -> list[bytes]:
    """A stream of 300 events in Anthropic's shape."""
    deltas = [stream_delta(_text(24, number)) for number in range(EVENTS)]
    return [stream_start(), *deltas, stream_end()]


def openai_stream_reply() -> list[bytes]:
    """A stream of 300 chunks in the shape of Chat Completions."""
    texts = [_chunk({"content": _text(24, number)}) for number in range(EVENTS)]
    return [_chunk({"role": "assistant", "content": ""}), *texts, _end("stop")]


def openai_tool_stream_reply() -> list[bytes]:
    """One call of a tool whose arguments, a long text, come in 300 chunks."""

    def arguments(text: str, **more: Any) -> bytes:
        call = {"index": 0, **more, "function": {**more.get("function", {}), "arguments": text}}
        return _chunk({"tool_calls": [call]})

    start = arguments(
        '{"path":"a.py","text":"', id="call_1", type="function", function={"name": "Write"}
    )
    texts = [arguments(_text(24, number)) for number in range(EVENTS)]
    return [start, *texts, arguments('"}'), _end("tool_calls")]


def _chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    document = {
        "id": "chatcmpl-benchmark",
        "object": "chat.completion.chunk",
        "created": 1_760_000_000,
        "model": "gpt-benchmark",
        "choices": [choice],
        **more,
    }
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def _end(finish: str) -> bytes:
    usage = {"prompt_tokens": 60_000, "completion_tokens": EVENTS, "total_tokens": 60_000 + EVENTS}
    return _chunk({}, finish, usage=usage) + b"data: [DONE]\n\n"
