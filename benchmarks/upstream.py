"""The mock upstream: answers from fixed bytes and reads no more than it has to.

    python -m benchmarks.upstream

Prints its port and serves until its standard input ends. The path decides:

    .../refuse...            429
    .../first... with the header x-bench-refuse    429
    .../chat/completions     a stream of 300 chunks, at full speed
    anything else            by the header x-bench: `json` (1 KB), `burst` (300 events at full
                             speed, each a write of its own), `paced` (an event every 100 ms,
                             with the time of its making inside), `flood` (64 MB at full
                             speed, as fast as they are taken)

Without the header, a request of more than 10 KB is answered by `burst`, any other by `json`.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable
from typing import cast

import uvloop

from benchmarks import payloads

INTERVAL = 0.1
LONGEST = 900
"""Events of a paced stream, so that a load that was forgotten ends."""


def _reply(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return f"{head}\r\nrequest-id: req_benchmark\r\n\r\n".encode() + body


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


JSON = _reply("200 OK", payloads.message_reply())
REFUSED = _reply("429 Too Many Requests", payloads.error_reply())
REFUSED_OPENAI = _reply("429 Too Many Requests", payloads.openai_error_reply())
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\nrequest-id: req_benchmark\r\n\r\n"
)
LAST = b"0\r\n\r\n"
BURST = [chunked(event) for event in payloads.stream_reply()] + [LAST]
OPENAI_BURST = [chunked(event) for event in payloads.openai_stream_reply()] + [LAST]
BEGINNING = chunked(payloads.stream_start())
LARGE = 10_000


class Upstream(asyncio.Protocol):
    """One connection, kept alive; one request after the other."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._head = b""
        self._missing = 0
        self._answer: Callable[[], None] = self._json
        self._timer: asyncio.TimerHandle | None = None
        self._events = 0
        self._flood_left = 0
        self._is_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data = self._head[:end].lower(), self._head[end + 4 :]
            self._head = b""
            start = head.find(b"\r\ncontent-length:")
            size = int(head[start + 17 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
            self._answer = self._choose(head, size)
            self._missing = size
        self._missing -= len(data)
        if self._missing <= 0:
            self._missing = 0
            self._answer()

    def _choose(self, head: bytes, size: int) -> Callable[[], None]:
        path = head.split(b" ", 2)[1]
        is_openai = path.endswith(b"/chat/completions")
        if b"/refuse" in path or (b"/first" in path and b"x-bench-refuse" in head):
            return lambda: self._transport.write(REFUSED_OPENAI if is_openai else REFUSED)
        if is_openai:
            return lambda: self._burst(OPENAI_BURST)
        if b"x-bench: flood" in head:
            return self._begin_flood
        if b"x-bench: paced" in head or b"/paced" in path:
            return self._paced
        if size > LARGE:
            return lambda: self._burst(BURST)
        return self._json

    def _json(self) -> None:
        self._transport.write(JSON)

    def _burst(self, events: list[bytes], position: int = 0) -> None:
        """One event in each turn of the loop: uvloop joins what is written in one turn."""
        if self._transport.is_closing():
            return
        self._transport.write(events[position] if position else STREAM_HEAD + events[0])
        if position + 1 < len(events):
            self._loop.call_soon(self._burst, events, position + 1)

    def _begin_flood(self) -> None:
        self._transport.write(STREAM_HEAD + BEGINNING)
        self._flood_left = FLOOD
        self._is_paused = False
        self._flood()

    def _flood(self) -> None:
        while not self._is_paused and self._flood_left > 0:
            self._transport.write(WAVE)
            self._flood_left -= len(WAVE)

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._flood()

    def _paced(self) -> None:
        self._transport.write(STREAM_HEAD + BEGINNING)
        self._events = 0
        self._next = self._loop.time() + INTERVAL * random.random()
        self._timer = self._loop.call_at(self._next, self._pace)

    def _pace(self) -> None:
        self._events += 1
        if self._events > LONGEST:
            self._transport.write(chunked(payloads.stream_end()) + LAST)
            return
        self._transport.write(chunked(STAMPED % time.monotonic()))
        self._next += INTERVAL
        self._timer = self._loop.call_at(self._next, self._pace)


FLOOD = 64 * 1024 * 1024
WAVE = chunked(payloads.stream_delta("a flood " * 4000))
STAMPED = payloads.stream_delta("at=STAMP a few words").replace(b"STAMP", b"%016.6f")


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(serve())
