"""Server-sent events: bytes to events and back."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sse import (
    DONE,
    GARBAGE,
    MAX_BUFFERED,
    BufferLimitExceeded,
    Payload,
    PayloadParser,
    frame,
    whole_events,
)


def parsed(*portions: bytes) -> list[Payload]:
    parser = PayloadParser()
    payloads = [payload for portion in portions for payload in parser.feed(portion)]
    return payloads + parser.finish()


def chunk(number: int) -> dict[str, Any]:
    return {"choices": [], "n": number}


ONE, TWO = (orjson.dumps(chunk(number)) for number in (1, 2))
EXPECTED = [Payload("", chunk(1)), Payload("", chunk(2))]
STREAMS = {
    "LF": b"data: " + ONE + b"\n\ndata: " + TWO + b"\n\n",
    "CRLF": b"data: " + ONE + b"\r\n\r\ndata: " + TWO + b"\r\n\r\n",
    "CR": b"data: " + ONE + b"\r\rdata: " + TWO + b"\r\r",
    "no space": b"data:" + ONE + b"\n\ndata:" + TWO + b"\n\n",
    "no blank lines": b"data: " + ONE + b"\ndata: " + TWO + b"\n",
    "no end": b"data: " + ONE + b"\n\ndata: " + TWO,
    "a byte order mark": b"\xef\xbb\xbfdata: " + ONE + b"\n\ndata: " + TWO + b"\n\n",
    "comments and other fields": b": hi\nid: 7\nretry: 5\nevent:\ndata: "
    + ONE
    + b"\n\n: keep-alive\n\nodd\ndata: "
    + TWO
    + b"\n\n",
    "an event in several lines": b'data: {"choices": [],\ndata: "n": 1}\n\ndata: ' + TWO + b"\n\n",
    "bare JSON": b"data: " + ONE + b"\n" + TWO + b"\n",
    "what says nothing": b"data:\n\ndata: null\n\ndata: 5\n\ndata: [1]\n\ndata: "
    + ONE
    + b"\n\ndata: "
    + TWO
    + b"\n\n",
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_events_are_found_however_they_are_written(stream: bytes) -> None:
    assert parsed(stream) == EXPECTED


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_events_are_found_byte_by_byte(stream: bytes) -> None:
    assert parsed(*(stream[i : i + 1] for i in range(len(stream)))) == EXPECTED


@pytest.mark.parametrize("mark", [b"[DONE]", b" [DONE] "])
def test_the_end_mark(mark: bytes) -> None:
    assert parsed(b"data:" + mark + b"\n\n")[0] is DONE


GARBAGES = {
    "with blank lines": b"data: {bad\n\ndata: " + ONE + b"\n\n",
    "without": b"data: {bad\ndata: " + ONE + b"\n",
}


@pytest.mark.parametrize("stream", GARBAGES.values(), ids=GARBAGES)
def test_garbage_is_marked_and_skipped(stream: bytes) -> None:
    first, second = parsed(stream)

    assert first is GARBAGE
    assert second == Payload("", chunk(1))


def test_the_name_of_an_event_is_kept_for_its_data_alone() -> None:
    stream = b'event: error\ndata: {"m":1}\ndata: ' + ONE + b"\n\ndata: " + TWO + b"\n\n"

    assert [payload.event for payload in parsed(stream)] == ["error", "", ""]
    assert parsed(b"event: error\ndata: broken\n\n") == [Payload("error", {"error": "broken"})]
    assert parsed(b'event: error\ndata: "broken"\n\n') == [Payload("error", {"error": "broken"})]


def test_bytes_that_are_no_text_and_half_an_emoji_are_read() -> None:
    odd = parsed(b'data: {"choices":[],"t":"\xff"}\n\ndata: {"choices":[],"t":"\\ud83d"}\n\n')

    assert [payload.document["t"] for payload in odd] == ["\ufffd", "\ud83d"]


def test_a_character_may_be_split_between_portions() -> None:
    event = b"data: " + orjson.dumps({"choices": [], "t": "ü\U0001f600"}) + b"\n\n"

    for cut in range(len(event)):
        (payload,) = parsed(event[:cut], event[cut:])
        assert payload.document["t"] == "ü\U0001f600"


def test_what_never_ends_is_not_held_forever() -> None:
    for portion in (b"x" * 1_000_000, b"data: {x" + b"x" * 1_000_000 + b"\n"):
        parser = PayloadParser()
        with pytest.raises(BufferLimitExceeded):
            for _ in range(MAX_BUFFERED // 1_000_000 + 2):
                parser.feed(portion)


line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
pieces = st.sampled_from(
    [b"data: " + ONE, b"data: {bad", b"data: [DONE]", b"event: error", b": c", b"", b"data: ", ONE]
)


@given(st.lists(st.tuples(pieces, line_ends), max_size=12), st.data())
def test_how_the_bytes_are_split_changes_nothing(
    lines: list[tuple[bytes, bytes]], data: Any
) -> None:
    stream = b"".join(line + end for line, end in lines)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=6)))
    portions = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert parsed(*portions) == parsed(stream)


def test_a_frame_is_a_name_and_one_line() -> None:
    assert frame("ping", {"type": "ping", "t": "a\nü"}) == (
        'event: ping\ndata: {"type":"ping","t":"a\\nü"}\n\n'.encode()
    )


ENDS = {
    b"": 0,
    b"data: x": 0,
    b"data: x\n": 0,
    b"data: x\r\n": 0,
    b"data: x\r": 0,
    b"data: x\n\n": 9,
    b"data: x\r\r": 9,
    b"data: x\r\n\r\n": 11,
    b"data: x\r\n\r": 10,
    b"data: x\n\r\n": 10,
    b"data: x\r\n\n": 10,
    b"data: x\n\ndata: y\n": 9,
    b"data: x\r\n\r\ndata: y\r\n": 11,
    b"data: x\n\n\n": 10,
}


@pytest.mark.parametrize(("buffer", "end"), ENDS.items(), ids=repr)
def test_where_the_last_whole_event_ends(buffer: bytes, end: int) -> None:
    assert whole_events(buffer) == end


@given(st.lists(st.sampled_from([b"a", b"\n", b"\r\n", b"\r"]), max_size=20).map(b"".join))
def test_a_whole_event_ends_with_a_blank_line(buffer: bytes) -> None:
    blank_line = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
    ends = [
        match.end()
        for start in range(len(buffer))
        if not buffer[:start].endswith(b"\r") or not buffer[start:].startswith(b"\n")
        if (match := blank_line.match(buffer, start))
    ]
    assert whole_events(buffer) == max(ends, default=0)
