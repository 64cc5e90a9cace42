"""Whole streams as the providers' documentation shows them, in `tests/streams/`.

Every one is read in one piece, byte by byte and line by line, and what comes
out is put together by the Anthropic SDK itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.formats import envelope
from tests.openai_dialect import HOSTS, asking, events_in, read_all, read_by_sdk, said, way_back

STREAMS = Path(__file__).parent / "streams"

EXPECTED: dict[str, tuple[list[Any], str, tuple[int, int, int, int]]] = {
    "openai": (
        [
            "Checking both.",
            ("call_DdmO9pD3", "get_weather", {"city": "Paris"}),
            ("call_x2", "get_weather", {"city": "Rome"}),
        ],
        "tool_use",
        (176, 1024, 0, 50),
    ),
    "openrouter": ([("thinking", "Let me think."), "Hello"], "end_turn", (15, 10, 5, 20)),
    "deepseek": (
        [("thinking", "Look first."), ("call_00_a", "ls", {"path": "/tmp"})],
        "tool_use",
        (36, 64, 0, 24),
    ),
    "mistral": (
        [
            ("thinking", "Hm, yes."),
            "Done: ",
            ("D681PevKs", "save", {"n": 1}),
            ("Ab12Cd34E", "save", {"n": 2}),
        ],
        "tool_use",
        (12, 0, 0, 18),
    ),
    "gemini": (
        [
            "Two calls.",
            ("function-call-1", "search", {"q": "a"}),
            ("function-call-2", "search", {"q": "b"}),
        ],
        "tool_use",
        (40, 0, 0, 20),
    ),
    "vllm": (
        [("thinking", "ok"), ("chatcmpl-tool-1", "run", {"cmd": 'ls {"a"}'})],
        "tool_use",
        (20, 0, 0, 8),
    ),
    "ollama": (
        ["Sure. ", ("call_w8", "time", {}), ("call_w9", "date", {"zone": "UTC"})],
        "tool_use",
        (15, 0, 0, 9),
    ),
    "llama_cpp": ([("thinking", "Short answer."), "Grüße"], "max_tokens", (1, 69, 0, 6)),
}
ASKED = asking("hi", stream=True, thinking={"type": "adaptive"})


def portions(stream: bytes, way: str) -> list[bytes]:
    match way:
        case "in one piece":
            return [stream]
        case "line by line":
            return stream.splitlines(keepends=True)
        case "with CRLF":
            return [stream.replace(b"\n", b"\r\n")]
    return [stream[i : i + 1] for i in range(len(stream))]


@pytest.mark.parametrize("way", ["in one piece", "line by line", "with CRLF", "byte by byte"])
@pytest.mark.parametrize("dialect", EXPECTED)
def test_a_stream_of_the_dialect(dialect: str, way: str) -> None:
    content, stop, usage = EXPECTED[dialect]
    reader = way_back(ASKED, HOSTS.get(dialect, HOSTS["generic"])).open_stream()
    stream = (STREAMS / f"{dialect}.sse").read_bytes()
    data = read_all(reader, portions(stream, way), ends=False)

    assert reader.complete
    assert said(events_in(data)) == content
    message = read_by_sdk(data)
    assert message.stop_reason == stop
    told = message.usage
    assert usage == (
        told.input_tokens,
        told.cache_read_input_tokens,
        told.cache_creation_input_tokens,
        told.output_tokens,
    )
    kept = reader.usage
    assert usage == (kept.input, kept.cache_read, kept.cache_creation, kept.output)
    assert [block.type for block in message.content] == [
        "text" if isinstance(block, str) else "thinking" if len(block) == 2 else "tool_use"
        for block in content
    ]


def test_openrouters_details_come_back_whole() -> None:
    reader = way_back(ASKED, "openrouter").open_stream()
    events = events_in(read_all(reader, [(STREAMS / "openrouter.sse").read_bytes()]))

    signature = next(
        event["delta"]["signature"]
        for event in events
        if event["type"] == "content_block_delta" and "signature" in event["delta"]
    )
    provenance = envelope.read(signature)
    assert provenance is not None
    assert provenance.details == [
        {
            "type": "reasoning.text",
            "text": "Let me think.",
            "signature": "ErUB",
            "format": "anthropic-claude-v1",
            "index": 0,
        }
    ]
