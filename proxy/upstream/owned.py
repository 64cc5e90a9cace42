"""An exchange over httpx, owned by a task.

httpx can lose a connection whose request is cancelled while it is being opened or closed, and a
client that presses Esc is a cancellation: so the task always closes its response itself; the
caller talks to it through a bounded queue. It is cancelled by an anyio scope: httpcore shields
its closing from those, but not from asyncio's own cancellation.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx

from proxy.deadlines import Deadline
from proxy.errors import NetworkFailure, TimeLimitExceeded, UpstreamFailure
from proxy.upstream.exchange import MAX_STALE_RETRIES, Exchange, Head
from proxy.upstream.routes import request_target, what_broke
from proxy.wire import UpstreamRequest

QUEUED_CHUNKS = 4
HELD_SECONDS = 60.0
"""How long an abandoned connection may take to open; a deaf proxy would take for ever."""
_NEVER: dict[str, float | None] = {"read": None, "write": None, "pool": None}


class OwnedExchange(Exchange):
    """An exchange over httpx, owned by a task."""

    def __init__(
        self, transport: httpx.AsyncBaseTransport, request: UpstreamRequest, connect_limit: float
    ) -> None:
        self._queue: asyncio.Queue[Head | bytes | UpstreamFailure] = asyncio.Queue(QUEUED_CHUNKS)
        self._next: Head | bytes | UpstreamFailure | None = None
        self._abandoned = False
        self._held = False
        self._scope = anyio.CancelScope()
        self._unsent = [request]
        self.task = asyncio.create_task(self._own(transport, connect_limit))

    async def _head(self, deadline: Deadline) -> Head:
        while (head := self._item()) is None:
            try:
                await self._news(deadline)
            except TimeoutError:
                raise TimeLimitExceeded(deadline.limit, deadline.seconds) from None
        assert isinstance(head, Head)
        return head

    def _take(self) -> bytes | None:
        chunk = self._item()
        assert not isinstance(chunk, Head)
        return chunk

    async def _news(self, deadline: Deadline) -> None:
        async with asyncio.timeout_at(deadline.at):
            self._next = await self._queue.get()

    def _item(self) -> Head | bytes | None:
        """The next one that has come, None if none has."""
        item, self._next = self._next, None
        if item is None and not self._queue.empty():
            item = self._queue.get_nowait()
        if isinstance(item, UpstreamFailure):
            raise item
        return item

    def abandon(self) -> None:
        """The owner closes the connection."""
        if not self._abandoned:
            self._abandoned = True
            if not self._held:
                self._scope.cancel()
            else:
                asyncio.get_running_loop().call_later(HELD_SECONDS, self._scope.cancel)

    def hold_cancellation(self) -> None:
        """A connection is being opened: `abandon` waits until that is over."""
        self._held = True

    def release_cancellation(self) -> None:
        """That is over; an `abandon` in the meantime takes effect at the owner's next step."""
        self._held = False
        if self._abandoned:
            self._scope.cancel()

    async def _own(self, transport: httpx.AsyncBaseTransport, connect_limit: float) -> None:
        with self._scope:
            await self._converse(transport, connect_limit)

    async def _converse(self, transport: httpx.AsyncBaseTransport, connect_limit: float) -> None:
        try:
            # Taken out, so that nobody holds the body any more while the reply streams.
            response = await _open(transport, self._unsent.pop(), connect_limit, self)
        except UpstreamFailure as failure:
            await self._queue.put(failure)
            return
        end: bytes | UpstreamFailure = b""
        try:
            headers = [(name.lower(), value) for name, value in response.headers.raw]
            await self._queue.put(Head(response.status_code, headers))
            async for chunk in response.aiter_raw():
                if chunk:
                    await self._queue.put(chunk)
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            end = NetworkFailure(what_broke(error))
        finally:
            with anyio.CancelScope(shield=True), contextlib.suppress(httpx.HTTPError, OSError):
                await response.aclose()
        await self._queue.put(end)


class _Upload(httpx.AsyncByteStream):
    """A request body that is let go of as soon as it has been sent."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body, self._body = self._body, b""
        if body:
            yield body


class _ConnectionTrace:
    """Notices whether a request was given a used connection, and while it opens a new one."""

    def __init__(self, exchange: OwnedExchange) -> None:
        self._exchange = exchange
        self.reused = True

    async def __call__(self, event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.started":
            self.reused = False
            self._exchange.hold_cancellation()
        elif event == "http11.send_request_headers.started" and not self.reused:
            # The first request through a proxy asks for a tunnel: TLS is still to come.
            is_tunnel = info["request"].method == b"CONNECT"
            if not is_tunnel:
                self._exchange.release_cancellation()


async def _open(
    transport: httpx.AsyncBaseTransport,
    request: UpstreamRequest,
    connect_limit: float,
    exchange: OwnedExchange,
) -> httpx.Response:
    """Send a request and read the head of the reply.

    A kept-alive connection that turns out to be dead before any byte of the
    reply is nobody's failure: the request is sent again, until it had a
    connection of its own.
    """
    for _ in range(MAX_STALE_RETRIES):
        trace = _ConnectionTrace(exchange)
        try:
            return await transport.handle_async_request(
                _httpx_request(request, connect_limit, trace)
            )
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
            if not trace.reused:
                raise NetworkFailure(what_broke(error)) from error
        except httpx.ConnectTimeout as error:
            raise TimeLimitExceeded("connect", connect_limit) from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise NetworkFailure(what_broke(error)) from error
    raise NetworkFailure("every kept connection was closed by the provider")


def _httpx_request(
    request: UpstreamRequest, connect_limit: float, trace: _ConnectionTrace
) -> httpx.Request:
    parts = urlsplit(request.url)
    headers = [(b"host", parts.netloc.encode()), *request.headers]
    if request.body or request.method not in ("GET", "HEAD"):
        headers.append((b"content-length", b"%d" % len(request.body)))
    return httpx.Request(
        request.method,
        f"{parts.scheme}://{parts.netloc}/",
        headers=headers,
        stream=_Upload(request.body),
        extensions={
            "timeout": {"connect": connect_limit, **_NEVER},
            "target": request_target(request.url),
            "trace": trace,
        },
    )
