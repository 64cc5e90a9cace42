"""What single steps cost: health, conversion, repairs. In this process, in CPU time of its thread.

Rounds are interleaved with what they are compared with; medians.

    python -m benchmarks.micro [--short]    (the log of its calls goes to standard error)
"""

from __future__ import annotations

import gc
import json
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any
from unittest import mock

import orjson
import uvloop

from benchmarks import configured, histories, in_process, payloads
from benchmarks.workloads import median
from providers.health import SUCCESS, Caller, outcome_of
from providers.health_keeper import HealthKeeper
from providers.knowledge import Knowledge
from providers.routing import ProviderSpec, Settings, Target, WireFormat
from proxy import relay
from proxy.call import MESSAGES, Call
from proxy.formats import FORMATS
from proxy.formats.base import StreamReader
from proxy.reading import BodyReader, read_head
from proxy.rectifiers.provenance import SignatureWatch

assert configured  # imported first, for its effect
PROVIDERS = 20


@dataclass(frozen=True, slots=True)
class Figure:
    """One result, and what it is to be held against."""

    name: str
    value: float
    unit: str
    goal: str


def figures(*, short: bool = False) -> list[Figure]:
    """All of them, in some seconds; `short`, in less than one."""
    rounds = 3 if short else 15
    gc.collect()
    gc.freeze()  # as the workers do
    number = 2_000 if short else 100_000
    return [
        admission(rounds, "one of them closed", closed=range(PROVIDERS - 1, PROVIDERS)),
        admission(rounds, "the first half closed", closed=range(PROVIDERS // 2)),
        *(request_conversion(name, body, rounds) for name, body in _requests().items()),
        *(stream_conversion(name, chunks, rounds) for name, chunks in _streams().items()),
        *(stream_memory(name, chunks, number) for name, chunks in _streams().items()),
        *(repairs(name, rounds, short=short) for name in ("1 KB", "256 KB")),
        repairs("256 KB", rounds, short=short, translates=True),
    ]


def admission(rounds: int, case: str, *, closed: range) -> Figure:
    """May I, and how it went: one call with 20 providers, some at a limit of one model."""
    keeper = HealthKeeper()
    specs = [ProviderSpec(n, f"provider-{n}", "http://127.0.0.1:1") for n in range(PROVIDERS)]
    targets = [Target(spec, payloads.MODEL) for spec in specs]
    caller = Caller("credential", "session", "")
    limit = outcome_of(429, [(b"retry-after", b"3600")], keeper.now())
    for decision in keeper.admit(targets, caller)[closed.start : closed.stop]:
        keeper.record(decision, caller, limit)

    def call() -> None:
        decisions = keeper.admit(targets, caller)
        keeper.record(next(d for d in decisions if d.allowed), caller, SUCCESS)
        keeper.release(decisions)

    value = median([_microseconds(call, 1000) for _ in range(rounds)])
    return Figure(f"admission and recording, {PROVIDERS} providers, {case}", value, "us", "< 20 us")


def _requests() -> dict[str, bytes]:
    return {
        "session": histories.coding_session(),
        "session with large results": histories.coding_session(histories.LARGE_RESULT),
        "history of plain prose": payloads.large_request(),
    }


def _streams() -> dict[str, list[bytes]]:
    return {
        "text": payloads.openai_stream_reply(),
        "tool argument": payloads.openai_tool_stream_reply(),
    }


def _chat(body: bytes) -> tuple[Target, Call]:
    spec = ProviderSpec(
        1, "chat", "http://127.0.0.1:1/v1", format=WireFormat.OPENAI, api_key="sk-chat"
    )
    return Target(spec, "gpt-benchmark"), Call(
        "req_1", "POST", MESSAGES, b"", (), body, payloads.MODEL, True
    )


def request_conversion(name: str, body: bytes, rounds: int) -> Figure:
    """256 KB to Chat Completions, as a multiple of decoding and encoding the same JSON."""
    target, call = _chat(body)
    translate = FORMATS[WireFormat.OPENAI].translate
    ratios = []
    for _ in range(rounds * 3):
        plain = _microseconds(lambda: orjson.dumps(orjson.loads(call.body)), 4)
        ratios.append(_microseconds(lambda: translate(call, target), 4) / plain)
    return Figure(f"conversion of 256 KB, {name}", median(ratios), "x json", "<= 3 x json")


def _reader() -> StreamReader:
    target, call = _chat(payloads.large_request())
    return FORMATS[WireFormat.OPENAI].translate(call, target)[1].open_stream()


def stream_conversion(name: str, chunks: list[bytes], rounds: int) -> Figure:
    """Chunks of a Chat Completions stream, one at a time."""

    def whole_stream(reader: StreamReader) -> None:
        for chunk in chunks:
            reader.feed(chunk)

    readers = [_reader() for _ in range(rounds)]
    spent = median([_microseconds(lambda r=r: whole_stream(r), 1) for r in readers])  # type: ignore[misc]
    return Figure(f"converted {name} chunks", len(chunks) / spent * 1e6, "/s", ">= 40,000 /s")


def stream_memory(name: str, chunks: list[bytes], number: int) -> Figure:
    """Growth from the first tenth of a long stream to its end."""
    reader, (start, chunk, *_) = _reader(), chunks
    reader.feed(start)
    tracemalloc.start()
    try:
        sizes = []
        for part in range(10):
            for _ in range(number // 10):
                reader.feed(chunk)
            gc.collect()
            if part in (0, 9):
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    grown = (sizes[1] - sizes[0]) / 1024
    return Figure(f"memory growth over {number:,} {name} chunks", grown, "KB", "flat")


class _NoMending:
    """What the relay needs of a `Mending`, without any repair."""

    def __init__(self, call: Call, target: Target, settings: Settings) -> None:
        self.call, self.target = call, target
        self.notes: list[dict[str, Any]] = []

    def learn(self, knowledge: Knowledge, target: Target, now: float, *, helped: bool) -> None:
        """Nothing was tried."""


@contextmanager
def _without_repairs() -> Iterator[None]:
    """All that is done for the sake of repairs, on the way there and back, left out."""
    with (
        mock.patch.object(BodyReader, "read", lambda reader, body, *_, **__: read_head(body)),
        mock.patch.object(relay, "prepared", lambda call, *_: call),
        mock.patch.object(relay, "Mending", _NoMending),
        mock.patch.object(SignatureWatch, "feed", lambda *_: ()),
        mock.patch.object(relay, "note_signatures", lambda *_: None),
    ):
        yield


def repairs(size: str, rounds: int, *, short: bool, translates: bool = False) -> Figure:
    """A call that needs no repair, as a part of one through a relay without any.

    `translates`: where a provider is configured whose thinking this proxy signs, every call is
    looked at, because it may have to be left out.
    """
    kind = in_process.small_call if size == "1 KB" else in_process.large_call
    number = (20 if size == "1 KB" else 3) if short else (50 if size == "1 KB" else 8)
    calls = in_process.Calls(*kind(), translates=translates)
    value = uvloop.run(_repairs(calls, number, rounds))
    name = f"repairs that are not needed, {size}" + ", looked at" * translates
    return Figure(name, (value - 1) * 100, "%", "none" if translates else "<= 2 %")


async def _repairs(calls: in_process.Calls, number: int, rounds: int) -> float:
    ratios = []
    with calls.wired():
        await calls.make(number)
        # Short and many: the machine's own speed changes from one tenth of a second to the next.
        for _ in range(rounds * 12):
            usual = await _spent(lambda: calls.make(number))
            with _without_repairs():
                ratios.append(usual / await _spent(lambda: calls.make(number)))
    return median(ratios)


async def _spent(work: Callable[[], Awaitable[None]]) -> float:
    before = time.thread_time()
    await work()
    return time.thread_time() - before


def _microseconds(work: Callable[[], object], number: int) -> float:
    before = time.thread_time()
    for _ in range(number):
        work()
    return (time.thread_time() - before) / number * 1e6


if __name__ == "__main__":
    print(json.dumps([asdict(figure) for figure in figures(short="--short" in sys.argv)]))
