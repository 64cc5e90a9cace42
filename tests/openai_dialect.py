"""Chat Completions as tests write them: requests there, chunks back, events out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import httpx2  # the HTTP client of Anthropic's SDK
import orjson
from anthropic import Anthropic
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from providers.routing import ProviderSpec, Target, WireFormat
from proxy.call import Call
from proxy.formats import envelope
from proxy.formats.openai_chat import OPENAI_CHAT
from proxy.formats.openai_chat.format import Translation
from proxy.formats.openai_chat.stream import ChatStreamReader

GENERIC = "https://llm.example/v1"
HOSTS = {
    "generic": GENERIC,
    "openai": "https://api.openai.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "deepseek": "https://api.deepseek.com",
    "mistral": "https://api.mistral.ai/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/openai",
}
DONE = b"data: [DONE]\n\n"
NO_JSON = "not JSON"
"""Stands for the input of a tool that is none."""
_EVENTS = TypeAdapter(RawMessageStreamEvent)

Json = dict[str, Any]


def target(base_url: str = GENERIC, model: str = "m1", **profile: Any) -> Target:
    provider = ProviderSpec(
        id=7,
        name="fallback",
        base_url=HOSTS.get(base_url, base_url),
        format=WireFormat.OPENAI,
        api_key="sk-own-key-of-provider",
        auth_header="authorization",
        profile=profile,
    )
    return Target(provider, model)


def call_of(document: Mapping[str, Any], **fields: Any) -> Call:
    return call_with(orjson.dumps(document), document, **fields)


def call_with(body: bytes, document: Mapping[str, Any], **fields: Any) -> Call:
    return Call(
        request_id="req_1",
        method="POST",
        path="/v1/messages",
        query=b"beta=true",
        headers=((b"anthropic-version", b"2023-06-01"), (b"x-api-key", b"sk-ant-client")),
        body=body,
        model=str(document.get("model", "")),
        stream=document.get("stream") is True,
        **fields,
    )


def asking(*messages: Any, **fields: Any) -> Json:
    """An Anthropic request; a lone text stands for a user's message."""
    listed = [{"role": "user", "content": m} if isinstance(m, str) else m for m in messages]
    return {"model": "claude-sonnet-5", "max_tokens": 100, "messages": listed, **fields}


def user(*content: Any) -> Json:
    return {"role": "user", "content": list(content)}


def assistant(*content: Any) -> Json:
    return {"role": "assistant", "content": list(content)}


def system_message(content: Any) -> Json:
    return {"role": "system", "content": content}


def text(words: str, **fields: Any) -> Json:
    return {"type": "text", "text": words, **fields}


def tool_use(tool_id: str, name: str = "Read", arguments: Any = None) -> Json:
    return {"type": "tool_use", "id": tool_id, "name": name, "input": arguments or {}}


def tool_result(tool_id: str, content: Any = "ok", **fields: Any) -> Json:
    return {"type": "tool_result", "tool_use_id": tool_id, "content": content, **fields}


def tool(name: str, **fields: Any) -> Json:
    return {"name": name, "input_schema": {"type": "object", "properties": {}}, **fields}


def sent(
    document: Mapping[str, Any], base_url: str = GENERIC, model: str = "m1", **profile: Any
) -> Json:
    """The body that goes to the provider."""
    request, _ = OPENAI_CHAT.translate(call_of(document), target(base_url, model, **profile))
    body: Json = orjson.loads(request.body)
    return body


def messages_sent(document: Mapping[str, Any], base_url: str = GENERIC, **profile: Any) -> Any:
    return sent(document, base_url, **profile)["messages"]


def way_back(
    document: Mapping[str, Any] | None = None, base_url: str = GENERIC, **profile: Any
) -> Translation:
    document = asking("hi", stream=True) if document is None else document
    return OPENAI_CHAT.translate(call_of(document), target(base_url, **profile))[1]


# -- content that several tests speak of ------------------------------------------------------

PNG = {"type": "base64", "media_type": "image/png", "data": "AAA"}
IMAGE = {"type": "image", "source": PNG}
IMAGE_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAA"}}
PDF = {
    "type": "document",
    "title": "T",
    "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"},
}
LOOP = (assistant(text("I'll look"), tool_use("t1")), user(tool_result("t1")))


THINKING = {"type": "thinking", "thinking": "secret thought", "signature": "EqQBsigned"}


SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "u": {"type": "string", "format": "uri", "default": "x"},
        "d": {"type": "string", "format": "date-time"},
        "n": {"type": ["number", "null"], "exclusiveMinimum": 0},
        "c": {"const": "only"},
        "r": {"$ref": "#/$defs/R"},
        "default": {"type": "string"},
    },
    "additionalProperties": False,
    "$defs": {"R": {"type": "object", "properties": {"x": {"$ref": "#/$defs/R"}}}},
}


WEB_SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}


def own_thinking(words: str = "mine", **provenance: Any) -> dict[str, Any]:
    signature = envelope.mint(envelope.Provenance(provider="7", source="reasoning", **provenance))
    return {"type": "thinking", "thinking": words, "signature": signature}


def roles(messages: list[dict[str, Any]]) -> list[str]:
    """Each message in short: its role, with the ids of a tool call or result."""
    short = []
    for message in messages:
        ids = ",".join(call["id"] for call in message.get("tool_calls", ()))
        short.append(message["role"] + (f" {ids}" if ids else ""))
        if message["role"] == "tool":
            short[-1] = f"tool {message['tool_call_id']}"
    return short


# -- replies ---------------------------------------------------------------------------------


def completion(message: Mapping[str, Any], finish: str | None = "stop", **fields: Any) -> bytes:
    """A whole reply. `usage` and choice-level fields are given by name."""
    body: Json = {"id": "chatcmpl-1", "object": "chat.completion", "model": "up"}
    body |= {name: fields.pop(name) for name in ("usage", "error") if name in fields}
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return orjson.dumps({**body, "choices": [{**choice, **fields}]})


def event(payload: Any) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def d(**delta: Any) -> bytes:
    """A chunk with one delta."""
    return event({"id": "c", "model": "up", "choices": [{"index": 0, "delta": delta}]})


def fin(reason: str, **choice: Any) -> bytes:
    """A chunk that only says why the reply ended."""
    return event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason, **choice}]})


def usage(**figures: Any) -> bytes:
    return event({"choices": [], "usage": figures})


def call_delta(
    index: int | None, tool_id: Any = None, name: Any = None, arguments: Any = None, **more: Any
) -> Json:
    """One entry of `tool_calls`; None leaves a key out, as `-` does in the notation of tables."""
    function = {"name": name, "arguments": arguments}
    delta = {"index": index, "id": tool_id, "type": "function", **more}
    return {
        **{key: value for key, value in delta.items() if value is not None},
        "function": {key: value for key, value in function.items() if value is not None},
    }


def tc(index: int | None, *fields: Any, **more: Any) -> bytes:
    """A chunk with one entry of `tool_calls`."""
    return d(tool_calls=[call_delta(index, *fields, **more)])


# -- what the client gets --------------------------------------------------------------------


def events_in(data: bytes) -> list[Json]:
    """The events of a stream to the client, each judged by the SDK's own types."""
    events = []
    for frame in data.split(b"\n\n")[:-1]:
        name, payload = frame.split(b"\n")
        document = orjson.loads(payload.removeprefix(b"data: "))
        assert name.removeprefix(b"event: ").decode() == document["type"]
        if document["type"] not in ("ping", "error"):
            _EVENTS.validate_python(document)
        events.append(document)
    return events


_stream = b""
_sdk = Anthropic(
    api_key="none",
    http_client=httpx2.Client(
        transport=httpx2.MockTransport(
            lambda request: httpx2.Response(
                200, headers={"content-type": "text/event-stream"}, content=_stream
            )
        )
    ),
)


def read_by_sdk(data: bytes) -> Message:
    """The message that Anthropic's own client makes of a stream."""
    global _stream
    _stream = data
    asked: Any = [{"role": "user", "content": "hi"}]
    with _sdk.messages.stream(model="m", max_tokens=1, messages=asked) as stream:
        return stream.get_final_message()


def read_all(reader: ChatStreamReader, chunks: Iterable[bytes], *, ends: bool = True) -> bytes:
    out = b"".join([reader.feed(chunk) for chunk in chunks])
    return out + reader.end() if ends else out


def streamed(*chunks: bytes, asked: Mapping[str, Any] | None = None, **profile: Any) -> list[Json]:
    """The events for the client of one whole upstream stream, pings left out."""
    reader = way_back(asked, **profile).open_stream()
    events = events_in(read_all(reader, chunks))
    return [event for event in events if event["type"] != "ping"]


def kinds(events: Iterable[Mapping[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def blocks_in(events: Iterable[Mapping[str, Any]]) -> list[Json]:
    """The content blocks that a stream's events add up to; checks the grammar on the way."""
    blocks: list[Json] = []
    is_open = False
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert not is_open
                assert event["index"] == len(blocks)
                is_open = True
                blocks.append({**event["content_block"], "json": ""})
            case "content_block_delta":
                assert is_open
                assert event["index"] == len(blocks) - 1
                _extend(blocks[-1], event["delta"])
            case "content_block_stop":
                assert is_open
                assert event["index"] == len(blocks) - 1
                is_open = False
    for block in blocks:
        arguments = block.pop("json")
        if block["type"] == "tool_use":
            try:
                block["input"] = orjson.loads(arguments)
            except orjson.JSONDecodeError:
                block["input"] = NO_JSON
    return blocks


_FIELDS = {
    "text_delta": ("text", "text", "text"),
    "thinking_delta": ("thinking", "thinking", "thinking"),
    "signature_delta": ("thinking", "signature", "signature"),
    "input_json_delta": ("tool_use", "partial_json", "json"),
}


def _extend(block: Json, delta: Mapping[str, Any]) -> None:
    block_type, source, field = _FIELDS[delta["type"]]
    assert block["type"] == block_type
    block[field] += delta[source]


def said(events: Iterable[Mapping[str, Any]]) -> list[Any]:
    """The blocks in short: a text, ("thinking", text), or (id, name, input)."""
    short: list[Any] = []
    for block in blocks_in(events):
        match block["type"]:
            case "text":
                short.append(block["text"])
            case "thinking":
                short.append(("thinking", block["thinking"]))
            case _:
                short.append((block["id"], block["name"], block["input"]))
    return short


def ending(events: Iterable[Mapping[str, Any]]) -> Json:
    """The one message_delta."""
    (delta,) = [event for event in events if event["type"] == "message_delta"]
    return dict(delta)
