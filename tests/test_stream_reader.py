"""However the network splits a stream, the same bytes pass and the same things are noticed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import InvalidReply
from proxy.formats.anthropic import MAX_HELD_BYTES, AnthropicStream
from proxy.sse import whole_events
from proxy.usage import Usage
from tests.upstreams import (
    BLOCK,
    BLOCK_STOP,
    DELTA,
    HELLO,
    PING,
    START,
    STOP,
    error_event,
    event,
)

LINE_ENDS = [b"\n", b"\r\n", b"\r"]


@pytest.mark.parametrize(
    ("buffer", "end"),
    [
        (b"", 0),
        (b"data: x", 0),
        (b"data: x\n", 0),
        (b"data: x\n\n", 9),
        (b"data: x\r\n\r\n", 11),
        (b"data: x\r\r", 9),
        (b"data: x\r\n", 0),
        (b"data: x\r\n\n", 10),
        (b"data: x\n\r\n", 10),
        (b"a\n\nb\n\nc\n", 6),
        (b"a\n\nb\r\n\r\nc", 8),
        (b"a\r\n\r\nb\n\nc", 8),
        (b": ping\n\n: p", 8),
        (b"\n\n", 2),
    ],
)
def test_an_event_ends_behind_its_blank_line(buffer: bytes, end: int) -> None:
    assert whole_events(buffer) == end


lines = st.text(alphabet="dat:{} x\u00e9", max_size=6).map(str.encode)
streams_of_lines = st.lists(st.tuples(lines, st.sampled_from(LINE_ENDS)), max_size=12).map(
    lambda pairs: b"".join(line + end for line, end in pairs)
)
cuts = st.lists(st.integers(0, 400), max_size=12)


def split(data: bytes, at: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in at)})
    return [data[first:last] for first, last in pairwise(places)]


@given(streams_of_lines)
def test_nothing_but_an_unfinished_event_is_left_over(data: bytes) -> None:
    rest = data[whole_events(data) :]
    assert whole_events(rest) == 0


@given(streams_of_lines, streams_of_lines)
def test_what_was_whole_stays_whole_whatever_follows(data: bytes, more: bytes) -> None:
    assert whole_events(data + more) >= whole_events(data)


EVENTS = [
    START,
    PING,
    BLOCK,
    HELLO,
    BLOCK_STOP,
    DELTA,
    STOP,
    error_event(),
    error_event("invalid_request_error", "prompt is too long: 2 tokens > 1 maximum"),
    event("content_block_delta", index=0, delta={"type": "text_delta", "text": '"error" é'}),
    event("message_delta", delta={}, usage={"output_tokens": 7, "input_tokens": -1}),
    event("message_start", message={"usage": None}),
    event("message_start", message=None),
    b": comment\n\n",
    b"data:\n\ndata: [1]\n\ndata: {bad\n\n",
    b'data:{"type":"content_block_start"}\n\n',
    b"data: [DONE]\n\n",
]
streams = st.tuples(
    st.lists(st.sampled_from(EVENTS), max_size=8).map(b"".join),
    st.sampled_from([b"", b"event: x\n", STOP[:-1], STOP[:-9], BLOCK[:-1], error_event()[:-1]]),
    st.sampled_from(LINE_ENDS),
).map(lambda parts: (parts[0] + parts[1]).replace(b"\n", parts[2]))


def read(chunks: list[bytes]) -> tuple[bytes, bytes, tuple[object, ...]]:
    """What passes, what passes at the end, and what has been noticed."""
    reader = AnthropicStream(Usage())
    passed = b"".join([reader.feed(chunk) for chunk in chunks])
    rest = reader.end()
    error = reader.error and (reader.error.status, reader.error.message)
    state = (reader.usage, reader.content_begun, reader.complete, error, reader.quiet_end)
    return passed, rest, state


@given(streams, cuts)
def test_a_split_changes_neither_the_bytes_nor_what_is_noticed(data: bytes, at: list[int]) -> None:
    whole_passed, whole_rest, whole_state = read([data])
    passed, rest, state = read(split(data, at))
    assert (passed, rest, state) == (whole_passed, whole_rest, whole_state)
    assert data.startswith(passed)


@given(streams)
def test_byte_by_byte_nothing_is_lost_or_held_back(data: bytes) -> None:
    reader = AnthropicStream(Usage())
    passed = b""
    for at in range(len(data)):
        passed += reader.feed(data[at : at + 1])
        assert len(passed) == whole_events(data[: at + 1])


def test_usage_is_read_from_both_ends_of_a_stream() -> None:
    reader = AnthropicStream(Usage())
    reader.feed(START)
    assert reader.usage == Usage(input=11, output=1, cache_read=22, cache_creation=33)
    reader.feed(BLOCK + HELLO + BLOCK_STOP + DELTA)
    assert reader.usage == Usage(input=11, output=44, cache_read=22, cache_creation=33)


def test_an_event_without_end_is_given_up() -> None:
    reader = AnthropicStream(Usage())
    with pytest.raises(InvalidReply):
        for _ in range(MAX_HELD_BYTES // 65536 + 1):
            reader.feed(b"x" * 65536)


def test_a_large_event_passes_whole() -> None:
    large = event("content_block_delta", index=0, delta={"type": "x", "text": "y" * 5_000_000})
    reader = AnthropicStream(Usage())
    passed = [reader.feed(large[at : at + 4096]) for at in range(0, len(large), 4096)]
    assert b"".join(passed) == large
