"""Whose thinking a history holds, and how signatures are noticed as they pass."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

import pytest

from proxy.rectifiers.provenance import (
    SignatureWatch,
    signatures_in,
    signatures_passing,
    strip_foreign,
)
from tests.histories import assistant, call, redacted, request, result, text, thinking, user


def short(signature: str) -> str:
    return hashlib.sha256(signature.encode()).digest()[:8].hex()


def event(type: str, **fields: Any) -> bytes:
    return f"event: {type}\ndata: {json.dumps({'type': type, **fields})}\n\n".encode()


HISTORY = request(
    user(text()),
    assistant(thinking("a", "EqQBone"), redacted("EmwKtwo"), text("x")),
    user(text()),
    assistant(thinking("b", "EqQBone"), thinking("c", "EuYBthree"), text("y")),
    user(text()),
)


def test_signatures_are_known_by_a_short_hash_in_order_without_doubles() -> None:
    assert signatures_in(HISTORY) == [short("EqQBone"), short("EmwKtwo"), short("EuYBthree")]
    assert signatures_in(request(user(text()))) == []


def test_foreign_thinking_goes_and_the_rest_is_the_same_object() -> None:
    kept = copy.deepcopy(HISTORY)
    stripped = strip_foreign(HISTORY, lambda hash: hash == short("EqQBone"))
    assert kept == HISTORY and stripped is not None
    assert stripped["messages"][1]["content"] == [redacted("EmwKtwo"), text("x")]
    assert stripped["messages"][3]["content"] == [thinking("c", "EuYBthree"), text("y")]
    assert stripped["messages"][0] is HISTORY["messages"][0]
    assert stripped["messages"][1]["content"][0] is HISTORY["messages"][1]["content"][1]


def test_nothing_foreign_means_nothing_to_send_anew() -> None:
    assert strip_foreign(HISTORY, lambda hash: False) is None


@pytest.mark.parametrize(
    "block",
    [
        thinking("a", "ccf1.abc"),
        thinking("a", ""),
        {"type": "thinking", "thinking": "a"},
        {"type": "thinking", "thinking": "a", "signature": None},
        redacted(""),
        redacted("ccf1.x"),
    ],
)
def test_k03_unsigned_thinking_and_our_own_goes_whoever_asks(block: dict[str, Any]) -> None:
    real = thinking("b", "EqQBone")
    history = request(
        user(text()), assistant(block, real, text("x")), assistant(block), user(text())
    )
    stripped = strip_foreign(history, lambda hash: False)
    assert stripped is not None
    assert stripped["messages"] == [user(text()), assistant(real, text("x")), user(text())]
    assert stripped["messages"][1]["content"][0] is real


@pytest.mark.parametrize(
    ("setting", "left"),
    [
        ({"type": "enabled", "budget_tokens": 2000}, None),
        ({"type": "adaptive"}, {"type": "adaptive"}),
        ({"type": "disabled"}, {"type": "disabled"}),
    ],
)
def test_thinking_is_switched_off_where_the_turn_no_longer_begins_with_it(
    setting: Any, left: Any
) -> None:
    edits = {"edits": [{"type": "clear_thinking_20251015"}]}
    looping = request(
        user(text()),
        assistant(thinking("a", "ccf1.x"), call("t1")),
        user(result("t1")),
        assistant(thinking("b", "EqQBone"), call("t2")),
        user(result("t2"), text("and")),
        thinking=setting,
        context_management=edits,
    )
    stripped = strip_foreign(looping, lambda hash: False)
    assert stripped is not None
    assert stripped.get("thinking") == left
    assert ("context_management" in stripped) == (left is not None)


def test_thinking_stays_on_where_the_user_spoke_last() -> None:
    setting = {"type": "enabled", "budget_tokens": 2000}
    stripped = strip_foreign({**HISTORY, "thinking": setting}, lambda hash: True)
    assert stripped is not None and stripped["thinking"] == setting


STREAM = (
    event("message_start", message={"content": []}),
    event(
        "content_block_start",
        index=0,
        content_block={"type": "thinking", "thinking": "", "signature": ""},
    ),
    event(
        "content_block_delta",
        index=0,
        delta={"type": "thinking_delta", "thinking": "signature_delta"},
    ),
    event(
        "content_block_delta", index=0, delta={"type": "signature_delta", "signature": "EqQBone"}
    ),
    event("content_block_stop", index=0),
    event(
        "content_block_start",
        index=1,
        content_block={"type": "redacted_thinking", "data": "EmwKtwo"},
    ),
    event(
        "content_block_delta", index=2, delta={"type": "text_delta", "text": '"signature": "no"'}
    ),
    event(
        "content_block_delta",
        index=3,
        delta={"type": "input_json_delta", "partial_json": '{"signature":"no"}'},
    ),
)


def test_signatures_are_noticed_as_events_pass() -> None:
    assert signatures_passing(b"".join(STREAM)) == [short("EqQBone"), short("EmwKtwo")]
    assert [signatures_passing(one) for one in STREAM if signatures_passing(one)] == [
        [short("EqQBone")],
        [short("EmwKtwo")],
    ]


def test_other_line_ends_and_spacing_are_read_too() -> None:
    crlf = STREAM[3].replace(b"\n", b"\r\n").replace(b"data: ", b"data:")
    assert signatures_passing(crlf) == [short("EqQBone")]


def test_signatures_are_noticed_in_a_whole_message() -> None:
    message = {
        "type": "message",
        "content": [thinking("a", "EqQBone"), redacted("EmwKtwo"), call("t", signature="no")],
    }
    assert signatures_passing(json.dumps(message, indent=1).encode()) == [
        short("EqQBone"),
        short("EmwKtwo"),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"event: ping\ndata: {}\n\n",
        b'data: {"signature_delta": broken\n\n',
        b'data: ["signature"]\n\n',
        b'{"signature": broken',
        b'["signature"]',
        b'{"content": "signature"}',
        b'data: {"delta": "signature_delta"}\n\n',
        b"data: \xff signature\n\n",
        b": signature\n\n",
    ],
)
def test_bytes_that_carry_no_signature_yield_none(data: bytes) -> None:
    assert signatures_passing(data) == []


def block(index: int, start: Any, *deltas: Any) -> list[bytes]:
    """One block of a stream; every third event is a ping."""
    return [
        event("content_block_start", index=index, content_block=start),
        event("ping"),
        *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
        event("content_block_stop", index=index),
    ]


def thought(index: int, signature: str) -> list[bytes]:
    deltas = [
        {"type": "thinking_delta", "thinking": 'Say "index": 7 in "content_block_start".'},
        {"type": "thinking_delta", "thinking": "What is a content_block_start?"},
        {"type": "signature_delta", "signature": signature},
    ]
    return block(index, {"type": "thinking", "thinking": "", "signature": ""}, *deltas)


def said(index: int, *pieces: str) -> list[bytes]:
    deltas = ({"type": "text_delta", "text": piece} for piece in pieces)
    return block(index, {"type": "text", "text": ""}, *deltas)


INTERLEAVED = [
    event("message_start", message={"content": []}),
    *thought(0, "EqQBfirst"),
    *said(1, *("word" for _ in range(20)), '"index": 0, "thinking"', '{"index": 0}'),
    *thought(2, "EqQBsecond"),
    *block(3, {"type": "redacted_thinking", "data": "EmwKthird"}),
    *block(
        4,
        {"type": "tool_use", "id": "t", "name": "Edit", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"index": 0, "signature": "no"}'},
    ),
    *said(5, "end"),
    *thought(6, "EqQBlast"),
    event("message_delta", delta={"stop_reason": "end_turn"}),
    event("message_stop"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 11, 17, 100])
@pytest.mark.parametrize("compact", [True, False])
def test_no_signature_of_a_stream_is_missed_in_whatever_portions_it_comes(
    size: int, compact: bool
) -> None:
    events = [one.replace(b": ", b":") if compact else one for one in INTERLEAVED]
    portions = [b"".join(events[at : at + size]) for at in range(0, len(events), size)]
    watch = SignatureWatch()
    found = [digest for portion in portions for digest in watch.feed(portion)]
    assert found == [short(f"EqQB{name}") for name in ("first", "second")] + [
        short("EmwKthird"),
        short("EqQBlast"),
    ]


def test_a_text_costs_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[bytes] = []

    def search(events: bytes) -> list[str]:
        searched.append(events)
        return signatures_passing(events)

    monkeypatch.setattr("proxy.rectifiers.provenance.signatures_passing", search)
    watch = SignatureWatch()
    for one in said(0, *("word" for _ in range(20))):
        watch.feed(one)
    assert searched == []
