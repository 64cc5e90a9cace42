"""The load generator: fixed requests on kept connections, replies read just far enough.

    python -m benchmarks.load

Reads one job as JSON from each line of standard input. For a job it first warms up, writes the
line `{"steady": true}`, measures for the time given, and writes the result.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import uvloop

from benchmarks import payloads

BODIES = {
    "small": payloads.small_request(),
    "small_stream": payloads.small_request(stream=True),
    "large": payloads.large_request(),
    "large_plain": payloads.large_request(cached=False),
}
RAMP = 16
"""Streams that are being opened at the same time."""
RAMP_SECONDS = 120
_STAMP = re.compile(rb"at=(\d+\.\d+)")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LAST_CHUNK = b"0\r\n\r\n"
_END_MARKS = (b"message_stop", b"[DONE]")


@dataclass(slots=True)
class Job:
    """`streams`: keep so many paced streams open; else call after call on `connections`."""

    port: int
    path: str
    headers: list[tuple[str, str]]
    body: str
    model: str = payloads.MODEL
    connections: int = 1
    streams: bool = False
    warm_up: float = 0.3
    seconds: float = 2.0


@dataclass(slots=True)
class Result:
    """`latencies` in seconds: of calls, or of single events in paced streams."""

    calls: int = 0
    errors: int = 0
    error: str = ""
    seconds: float = 0.0
    bytes: int = 0
    events: int = 0
    latencies: list[float] = field(default_factory=list)


class Client(asyncio.Protocol):
    """One connection. `finished` is set by each whole reply."""

    def __init__(self, result: Result) -> None:
        self._result = result
        self.measuring = False
        self.first_event = asyncio.Event()
        self._head = b""
        self._left = -1
        self._tail = b""
        self._ended: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"connection lost: {error}".encode())

    async def call(self, request: bytes) -> None:
        """Send a request and wait for the end of its reply."""
        self.send(request)
        assert self._ended is not None
        await self._ended

    def send(self, request: bytes) -> asyncio.Future[None]:
        self._ended = asyncio.get_running_loop().create_future()
        self._head, self._left, self._tail = b"", -1, b""
        self._transport.write(request)
        return self._ended

    def close(self) -> None:
        self._ended = None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if self._left < 0 and not self._tail:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            data, head = self._head[end + 4 :], self._head[: end + 2]
            if head[9:12] != b"200":
                self._fail(self._head[:600])
                return
            found = _LENGTH.search(head)
            self._left = int(found[1]) if found else -1
            self._tail = b"" if found else b"."
        self._result.bytes += len(data)
        if self._left >= 0:
            self._left -= len(data)
            if self._left <= 0:
                self._end()
            return
        self._read_stream(data, now)

    def _read_stream(self, data: bytes, now: float) -> None:
        stamps = _STAMP.findall(data)
        if stamps:
            self.first_event.set()
            if self.measuring:
                self._result.events += len(stamps)
                self._result.latencies += [now - float(stamp) for stamp in stamps]
        self._tail = (self._tail + data)[-400:]
        if self._tail.endswith(_LAST_CHUNK):
            if any(mark in self._tail for mark in _END_MARKS):
                self._end()
            else:
                self._fail(self._tail)

    def _end(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _fail(self, what: bytes) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(ConnectionError(what.decode("latin-1")))


def request_of(job: Job) -> bytes:
    body = BODIES[job.body].replace(payloads.MODEL.encode(), job.model.encode(), 1)
    lines = [f"POST {job.path} HTTP/1.1", f"host: 127.0.0.1:{job.port}"]
    lines += [f"{name}: {value}" for name, value in job.headers]
    lines += ["content-type: application/json", f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


async def connect(job: Job, result: Result) -> Client:
    loop = asyncio.get_running_loop()
    return (await loop.create_connection(lambda: Client(result), "127.0.0.1", job.port))[1]


async def closed_loop(job: Job) -> Result:
    """Each connection sends its next request when it has the whole reply to the last one."""
    result, request = Result(), request_of(job)
    begin = time.monotonic() + job.warm_up
    end = begin + job.seconds

    async def work() -> None:
        client = await connect(job, result)
        try:
            while (started := time.monotonic()) < end:
                await client.call(request)
                finished = time.monotonic()
                if begin <= finished <= end:
                    result.calls += 1
                    result.latencies.append(finished - started)
        except OSError as error:
            result.errors += 1
            result.error = str(error)
        finally:
            client.close()

    workers = [asyncio.create_task(work()) for _ in range(job.connections)]
    await asyncio.sleep(job.warm_up)
    tell({"steady": True})
    await asyncio.sleep(job.seconds)
    tell({"over": True})
    result.seconds = job.seconds
    await asyncio.gather(*workers)
    return result


async def open_streams(job: Job) -> Result:
    """Open the streams, a few at a time, then listen to all of them."""
    result, request, clients = Result(), request_of(job), list[Client]()
    gate = asyncio.Semaphore(RAMP)

    async def ramp() -> None:
        async with gate:
            client = await connect(job, result)
            clients.append(client)
            ended = client.send(request)
            first = asyncio.ensure_future(client.first_event.wait())
            waited: list[asyncio.Future[Any]] = [ended, first]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            first.cancel()
            if ended.done():
                result.errors += 1
                result.error = str(ended.exception())

    try:
        async with asyncio.timeout(RAMP_SECONDS):
            await asyncio.gather(*(ramp() for _ in range(job.connections)))
        await asyncio.sleep(job.warm_up)
        for client in clients:
            client.measuring = True
        tell({"steady": True})
        await asyncio.sleep(job.seconds)
        tell({"over": True})
        for client in clients:
            client.measuring = False
        result.seconds, result.calls = job.seconds, len(clients)
    except TimeoutError:
        result.errors += 1
        result.error = f"only {len(clients)} streams were open after {RAMP_SECONDS} s"
    finally:
        for client in clients:
            client.close()
        await asyncio.sleep(0.3)
    return result


def tell(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


async def main() -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        job = Job(**json.loads(line))
        result = await (open_streams(job) if job.streams else closed_loop(job))
        tell(asdict(result))


if __name__ == "__main__":
    uvloop.run(main())
