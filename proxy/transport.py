"""HTTP/1.1 over the event loop's own transports: kept connections, one request at a time on each.

What `proxy.upstream` hands its requests to, unless a proxy of the environment is in between. A
connection belongs to nobody but its reply: abandoning that closes it, at once and from anywhere,
so there is nothing that a cancellation could leave behind. Knows neither httpx nor providers.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn, cast

import httptools

HIGH_WATER = 64 * 1024
"""Bytes of a reply that nobody has read yet, from which on its provider has to wait."""

MAX_HEAD = 1024 * 1024
"""Bytes that a reply may take until its headers are complete."""

KEEP_SECONDS = 60.0
"""How long an unused connection is kept."""

MAX_IDLE = 256
"""Unused connections that are kept for one origin."""

HEAD_START = 0.25
"""Seconds before the next address of a host is tried beside the one that has not answered yet."""

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_BODILESS = frozenset({204, 304})

Headers = list[tuple[bytes, bytes]]


_Address = tuple[Any, ...]


class Origin(NamedTuple):
    """Where a connection leads."""

    scheme: str
    host: str
    port: int


class ConnectionBroken(Exception):
    """The peer has closed the connection, or has sent what is not HTTP.

    `silent`: before it had sent a single byte of the reply.
    """

    def __init__(self, message: str, *, silent: bool) -> None:
        super().__init__(message)
        self.silent = silent


class Reply:
    """One reply as it arrives. `head()` first, then `read()` until it returns b"".

    Both take a point in time on the loop's clock, and raise `TimeoutError` and
    `ConnectionBroken`. For one reader.
    """

    __slots__ = (
        "_broken",
        "_connection",
        "_loop",
        "_parts",
        "_size",
        "_timer",
        "_until",
        "_waiter",
        "complete",
        "headers",
        "status",
    )

    def __init__(self, connection: Connection) -> None:
        self.status = 0
        self.headers: Headers = []
        self.complete = False
        self._broken: tuple[str, bool] | None = None
        self._connection = connection
        self._loop = connection.loop
        self._parts: list[bytes] = []
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def head(self, until: float) -> tuple[int, Headers]:
        """Status and headers, names in lower case."""
        while not self.status:
            if self._broken is not None:
                self._raise(*self._broken)
            await self.news(until)
        return self.status, self.headers

    async def read(self, until: float) -> bytes:
        """All that has arrived of the body since the last time; b"" at its end."""
        while (data := self.take()) is None:
            await self.news(until)
        return data

    def take(self) -> bytes | None:
        """As `read`, without waiting: None if nothing has arrived."""
        if not self._parts:
            if self._broken is not None:
                self._raise(*self._broken)
            return b"" if self.complete else None
        parts, self._parts = self._parts, []
        if self.is_full and not self.complete:
            self._connection.resume()
        self._size = 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def abandon(self) -> None:
        """Nobody wants the rest."""
        if not self.complete:
            self._connection.close()

    @property
    def is_full(self) -> bool:
        """So much is unread that the provider has to wait."""
        return self._size >= HIGH_WATER

    # What the connection tells

    def add(self, part: bytes) -> None:
        self._parts.append(part)
        before, self._size = self._size, self._size + len(part)
        if before < HIGH_WATER <= self._size:
            self._connection.pause()
        self.wake()

    def fail(self, message: str, *, silent: bool) -> None:
        if self._broken is None:
            self._broken = message, silent
        self._stop_timer()
        self.wake()

    def end(self) -> None:
        self.complete = True
        self._stop_timer()
        self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _raise(self, message: str, silent: bool) -> NoReturn:
        """Made anew each time: one that is kept would keep alive whoever it has passed."""
        raise ConnectionBroken(message, silent=silent)

    def news(self, until: float) -> asyncio.Future[None]:
        """To be awaited: done when something has arrived; `TimeoutError` when time is up."""
        self._waiter = waiter = self._loop.create_future()
        self._until = until
        if self._timer is not None and self._timer.when() > until:
            self._stop_timer()
        if self._timer is None:
            self._timer = self._loop.call_at(until, self._on_timer)
        return waiter

    def _on_timer(self) -> None:
        """Time may be up.

        The timer is left alone when something arrives in time: a new one for each event of a
        stream would cost more than to find, once in a while, that there is time left.
        """
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._until:
            self._timer = self._loop.call_at(self._until, self._on_timer)
        else:
            self._waiter.set_exception(TimeoutError())

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Connection(asyncio.Protocol):
    """One connection; `begin` a request when no other one is under way."""

    def __init__(self, pool: Pool, origin: Origin) -> None:
        self.origin = origin
        self.loop = asyncio.get_running_loop()
        self.idle_since = 0.0
        self._pool = pool
        self._headers: Headers = []
        self._parser: httptools.HttpResponseParser | None = None
        self._reply: Reply | None = None
        self._transport: asyncio.Transport | None = None
        self._silent = True
        self._head_size = 0
        self._bodiless = False
        self._ends_with_connection = False
        self._parts: list[bytes] = []
        # The parser calls it for every chunk, of which there are hundreds in one portion.
        self.on_body = self._parts.append

    def begin(self, head: bytes, body: bytes, *, bodiless: bool) -> Reply:
        """Send a request. `bodiless`: its reply has no body, whatever its headers say (HEAD)."""
        assert self._reply is None
        assert self._transport is not None
        self._reply = Reply(self)
        self._parser = httptools.HttpResponseParser(self)
        self._silent, self._head_size, self._bodiless = True, 0, bodiless
        if body:
            self._transport.writelines((head, body))
        else:
            self._transport.write(head)
        return self._reply

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def pause(self) -> None:
        if self.is_open:
            cast("asyncio.Transport", self._transport).pause_reading()

    def resume(self) -> None:
        if self.is_open:
            cast("asyncio.Transport", self._transport).resume_reading()

    def close(self) -> None:
        """At once, whatever is under way."""
        self._pool.forget(self)
        self._parser = None
        self._parts.clear()
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.fail("the connection was closed", silent=False)
        if self._transport is not None:
            self._transport.abort()

    # asyncio's protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self.close()  # it speaks without being asked
            return
        self._silent = False
        if self._reply is not None and not self._reply.status:
            self._head_size += len(data)
            if self._head_size > MAX_HEAD:
                self._break("the head of the reply is larger than 1 MB")
                return
        try:
            self._parser.feed_data(data)
            self._hand_over()
        except httptools.HttpParserUpgrade:
            self._break("the reply switches to another protocol")
        except httptools.HttpParserError as error:
            self._break(f"the reply is not valid HTTP: {error}")

    def eof_received(self) -> None:
        if self._reply is not None and self._reply.status and self._ends_with_connection:
            self.on_message_complete()

    def connection_lost(self, error: Exception | None) -> None:
        self._break(str(error) if error else "the connection was closed by the provider")

    def _break(self, message: str) -> None:
        self._hand_over()
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.fail(message, silent=self._silent)
        self.close()

    # httptools' callbacks

    def on_message_begin(self) -> None:
        self._headers = []
        if self._reply is None:
            self.close()  # more than was asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._parser is None or self._reply is None:
            return
        status = self._parser.get_status_code()
        if status < 200:
            return  # the real one follows
        framed = any(name in _FRAMING for name, _ in self._headers) or status in _BODILESS
        self._ends_with_connection = not framed
        self._reply.status, self._reply.headers = status, self._headers
        self._reply.wake()
        if self._bodiless:
            self.on_message_complete()

    def on_message_complete(self) -> None:
        reply = self._reply
        if reply is None or not reply.status:
            return
        self._hand_over()
        self._reply = None
        reply.end()
        if reply.is_full:
            self.resume()
        if self._may_be_kept():
            self._parser = None
            self._pool.keep(self)
        else:
            self.close()

    def _hand_over(self) -> None:
        """Give the reply what has been read of its body."""
        if self._parts:
            data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts.clear()
            if self._reply is not None:
                self._reply.add(data)

    def _may_be_kept(self) -> bool:
        """Whether both sides are done with this request, and mean to go on."""
        return (
            self.is_open
            and self._parser is not None
            and self._parser.should_keep_alive()
            and not self._bodiless
            and not self._ends_with_connection
            and cast("asyncio.Transport", self._transport).get_write_buffer_size() == 0
        )


class Pool:
    """All connections of one worker. The one that was used last is used first."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._idle: defaultdict[Origin, list[Connection]] = defaultdict(list)
        self._open: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> int:
        """Connections that a request is under way on."""
        return len(self._open) - self.idle

    @property
    def idle(self) -> int:
        """Connections that are kept for a later request."""
        return sum(map(len, self._idle.values()))

    def kept(self, origin: Origin) -> Connection | None:
        """An unused connection that is still open, as far as one can tell."""
        unused = self._idle.get(origin)
        while unused:
            connection = unused.pop()
            if connection.is_open:
                return connection
            self._open.discard(connection)
        return None

    async def connect(self, origin: Origin) -> Connection:
        """A new connection. Raises `OSError`, of which TLS errors are a kind."""
        loop = asyncio.get_running_loop()
        peer = await _connected_socket(origin.host, origin.port)
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(self, origin),
                sock=peer,
                ssl=self._tls if origin.scheme == "https" else None,
                server_hostname=origin.host if origin.scheme == "https" else None,
            )
        except BaseException:
            peer.close()
            raise
        self._open.add(connection)
        return connection

    def keep(self, connection: Connection) -> None:
        """Its request is over."""
        unused = self._idle[connection.origin]
        if len(unused) >= MAX_IDLE:
            connection.close()
            return
        connection.idle_since = connection.loop.time()
        unused.append(connection)
        if self._sweep is None:
            self._sweep = connection.loop.call_later(KEEP_SECONDS, self._close_unused)

    def forget(self, connection: Connection) -> None:
        """It is being closed."""
        self._open.discard(connection)
        unused = self._idle.get(connection.origin)
        if unused and connection in unused:
            unused.remove(connection)

    def close(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self._open):
            connection.close()

    def _close_unused(self) -> None:
        loop = asyncio.get_running_loop()
        limit = loop.time() - KEEP_SECONDS
        for unused in list(self._idle.values()):
            for connection in [c for c in unused if c.idle_since <= limit]:
                connection.close()
        self._sweep = loop.call_later(KEEP_SECONDS / 2, self._close_unused) if self.idle else None


async def _connected_socket(host: str, port: int) -> socket.socket:
    """The first address of a host that answers; each gets a head start over the next.

    Otherwise a host with an IPv6 address that leads nowhere would cost the whole limit.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = _alternating([(family, address) for family, _, _, _, address in found])
    attempts: list[asyncio.Task[socket.socket]] = []
    pending: set[asyncio.Task[socket.socket]] = set()
    error: BaseException = OSError(f"{host} has no address")
    try:
        while addresses or pending:
            if addresses:
                attempts.append(asyncio.create_task(_open_socket(*addresses.pop(0))))
                pending.add(attempts[-1])
            done, pending = await asyncio.wait(
                pending,
                timeout=HEAD_START if addresses else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                if (failure := task.exception()) is None:
                    attempts.remove(task)
                    return task.result()
                error = failure
    finally:
        for task in attempts:
            task.add_done_callback(_close_socket)
            task.cancel()
    raise error


async def _open_socket(family: int, address: _Address) -> socket.socket:
    peer = socket.socket(family, socket.SOCK_STREAM)
    try:
        peer.setblocking(False)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(peer, address)
    except BaseException:
        peer.close()
        raise
    return peer


def _close_socket(task: asyncio.Task[socket.socket]) -> None:
    """Somebody else was faster."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _alternating(
    addresses: Sequence[tuple[int, _Address]],
) -> list[tuple[int, _Address]]:
    """The families by turns, the first one's in front."""
    first = [pair for pair in addresses if pair[0] == addresses[0][0]]
    others = [pair for pair in addresses if pair[0] != addresses[0][0]]
    ordered = []
    while first or others:
        ordered += [pairs.pop(0) for pairs in (first, others) if pairs]
    return ordered
