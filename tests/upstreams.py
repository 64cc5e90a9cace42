"""A fake provider on a loopback socket: records what it gets, says exactly what it is told.

A provider is given steps, one a request; the last one answers for ever. A step
is a coroutine function that talks to the connection; the functions at the end
of this module make the usual ones.
"""

from __future__ import annotations

import asyncio
import enum
import json
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

HeaderList = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Received:
    """One request, byte by byte. Header names as they were sent."""

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    connection: int

    def values(self, name: str) -> list[bytes]:
        """All values of a header."""
        return [value for key, value in self.headers if key.lower() == name.encode()]

    @property
    def everything(self) -> bytes:
        """Whatever the provider got to see, for finding what it must not see."""
        head = b"\n".join(name + b": " + value for name, value in self.headers)
        return b"\n".join([self.target, head, self.body])


class Connection:
    """One accepted connection, in the hands of a step."""

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self.over = False
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def until_peer_leaves(self) -> None:
        try:
            while await self._reader.read(65536):
                pass
        except ConnectionError:
            pass
        self.over = True

    def close(self) -> None:
        """Whatever was sent still arrives, then the connection ends."""
        self.over = True
        self._writer.close()

    def reset(self) -> None:
        """The connection dies at once."""
        self.over = True
        peer = self._writer.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._writer.transport.abort()

    async def read_request(self) -> Received | None:
        """The next request, None when the peer has left."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            first, *lines = head[:-4].split(b"\r\n")
            method, target, _ = first.split(b" ")
            headers = [(line.split(b": ")[0], line.split(b": ", 1)[1]) for line in lines]
            length = next((int(v) for n, v in headers if n.lower() == b"content-length"), 0)
            body = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return Received(method.decode(), target, headers, body, self.number)


Step = Callable[[Connection, Received], Awaitable[None]]


class FakeProvider:
    """`async with FakeProvider(step, ...) as up:`; then `up.url`, `up.requests`, `up.open`."""

    def __init__(self, *steps: Step) -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self.open: set[Connection] = set()
        self._steps: list[Step] = list(steps)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def script(self, *steps: Step) -> None:
        """From here on these steps, and a clean record."""
        self._steps = list(steps)
        self.requests.clear()

    async def __aenter__(self) -> FakeProvider:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=1 << 20, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self.open):
            connection.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        connection = Connection(self.connections, reader, writer)
        self.open.add(connection)
        try:
            await self._answer(connection)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open.discard(connection)
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, connection: Connection) -> None:
        while not connection.over and (request := await connection.read_request()):
            self.requests.append(request)
            step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
            await step(connection, request)


# --- what an Anthropic-format provider says ---------------------------------


class Then(enum.Enum):
    """What can happen to a stream besides bytes and gates."""

    CUT = "the connection ends without the last chunk"
    RESET = "the connection is reset"
    HANG = "nothing more comes until the proxy leaves"


Part = bytes | asyncio.Event | Then


def event(kind: str, **fields: Any) -> bytes:
    """One server-sent event as Anthropic writes it."""
    data = json.dumps({"type": kind, **fields}, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()


def error_event(kind: str = "overloaded_error", message: str = "Overloaded") -> bytes:
    return event("error", error={"type": kind, "message": message})


USAGE = {
    "input_tokens": 11,
    "cache_read_input_tokens": 22,
    "cache_creation_input_tokens": 33,
    "output_tokens": 1,
}
START = event(
    "message_start",
    message={
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": USAGE,
    },
)
PING = event("ping")
BLOCK = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
HELLO = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello"})
WORLD = event("content_block_delta", index=0, delta={"type": "text_delta", "text": " world"})
BLOCK_STOP = event("content_block_stop", index=0)
DELTA = event(
    "message_delta",
    delta={"stop_reason": "end_turn", "stop_sequence": None},
    usage={"output_tokens": 44},
)
STOP = event("message_stop")
STREAM = [START, PING, BLOCK, HELLO, WORLD, BLOCK_STOP, DELTA, STOP]

MESSAGE = json.dumps(
    {
        "id": "msg_2",
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "content": [{"type": "text", "text": "Hello world"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {**USAGE, "output_tokens": 44},
    }
).encode()

JSON_TYPE = (b"content-type", b"application/json")
STREAM_TYPE = (b"content-type", b"text/event-stream; charset=utf-8")


def _head(status: int, headers: HeaderList) -> bytes:
    lines = [b"HTTP/1.1 %d Status" % status, *(n + b": " + v for n, v in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def reply(status: int, body: bytes = b"", headers: HeaderList = (JSON_TYPE,)) -> Step:
    """A whole reply with a Content-Length."""

    async def step(connection: Connection, request: Received) -> None:
        length = (b"content-length", b"%d" % len(body))
        content = b"" if request.method == "HEAD" else body
        await connection.send(_head(status, [*headers, length]) + content)

    return step


def message(body: bytes = MESSAGE, headers: HeaderList = ()) -> Step:
    return reply(200, body, [JSON_TYPE, *headers])


def error_body(kind: str, text: str) -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": text}}).encode()


def refuse(
    status: int, text: str = "no", kind: str = "api_error", headers: HeaderList = ()
) -> Step:
    """An error in Anthropic's envelope."""
    return reply(status, error_body(kind, text), [JSON_TYPE, *headers])


UNIFIED = b"anthropic-ratelimit-unified-"


def used_up(until: float, claim: str = "five_hour") -> Step:
    """How a subscription says that a window of it is used up until then."""
    reset = b"%d" % until
    headers = [
        (UNIFIED + b"status", b"rejected"),
        (UNIFIED + b"representative-claim", claim.encode()),
        (UNIFIED + b"reset", reset),
    ]
    return refuse(429, "This request would exceed your limit", "rate_limit_error", headers)


def rate_limited(seconds: int) -> Step:
    """A limit of the API, which says when to come back."""
    return refuse(429, "slow down", "rate_limit_error", [(b"retry-after", b"%d" % seconds)])


def stream(*parts: Part, headers: HeaderList = (STREAM_TYPE,), end: bool = True) -> Step:
    """A chunked reply: bytes are a chunk each, an `asyncio.Event` is waited for.

    Without `end` whoever calls the step goes on with the reply.
    """

    async def step(connection: Connection, request: Received) -> None:
        await connection.send(_head(200, [*headers, (b"transfer-encoding", b"chunked")]))
        for part in parts:
            if isinstance(part, asyncio.Event):
                await part.wait()
            elif part is Then.CUT:
                return connection.close()
            elif part is Then.RESET:
                return connection.reset()
            elif part is Then.HANG:
                return await connection.until_peer_leaves()
            else:
                await connection.send(b"%x\r\n%b\r\n" % (len(part), part))
        if end:
            await connection.send(b"0\r\n\r\n")
        return None

    return step


def either(streamed: Step, whole: Step) -> Step:
    """By what the request asks for."""

    async def step(connection: Connection, request: Received) -> None:
        asked = re.search(rb'"stream"\s*:\s*true', request.body)
        await (streamed if asked else whole)(connection, request)

    return step


def ok() -> Step:
    """A good answer, streamed or whole."""
    return either(stream(*STREAM), message())


def by_case(steps: Mapping[str, Step]) -> Step:
    """By the field `case` of the request: so that many cases can be tried at once."""

    async def step(connection: Connection, request: Received) -> None:
        await steps[json.loads(request.body)["case"]](connection, request)

    return step


def drop() -> Step:
    """No answer: the connection ends."""

    async def step(connection: Connection, request: Received) -> None:
        connection.close()

    return step


def hang() -> Step:
    """No answer: the connection stays open until the proxy leaves."""

    async def step(connection: Connection, request: Received) -> None:
        await connection.until_peer_leaves()

    return step


def raw(data: bytes, *, then_close: bool = True) -> Step:
    """These bytes and no others."""

    async def step(connection: Connection, request: Received) -> None:
        await connection.send(data)
        if then_close:
            connection.close()

    return step


@dataclass
class Gate:
    """A step that waits for `event` before it goes on with another step."""

    then: Step
    event: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, connection: Connection, request: Received) -> None:
        await self.event.wait()
        await self.then(connection, request)


def names(requests: Sequence[Received]) -> list[str]:
    """Method and target of each request, for comparing at a glance."""
    return [f"{request.method} {request.target.decode('latin-1')}" for request in requests]
