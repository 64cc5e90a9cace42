"""HTTP to the providers. The only module that imports httpx.

httpx can lose a connection whose request is cancelled while it is being opened
or closed, and a client that presses Esc is a cancellation. So each exchange is
owned by a task of its own, which always closes its response itself; the caller
talks to it through a bounded queue. It is cancelled by an anyio scope: httpcore
shields its closing from those, but not from asyncio's own cancellation.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import anyio
import httpx

from proxy.deadlines import Deadline
from proxy.errors import InvalidReply, NetworkFailure, TimeLimitExceeded, UpstreamFailure
from proxy.wire import HeaderPairs, UpstreamRequest, header

QUEUED_CHUNKS = 4
MAX_STALE_RETRIES = 5
CLOSE_GRACE = 5.0
_NEVER: dict[str, float | None] = {"read": None, "write": None, "pool": None}


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

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.reused = True

    async def __call__(self, event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.started":
            self.reused = False
            self._exchange.hold_cancellation()
        elif event == "http11.send_request_headers.started" and not self.reused:
            self._exchange.release_cancellation()


class Head:
    """Status and headers of a reply. Names in lower case, duplicates kept."""

    __slots__ = ("headers", "status")

    def __init__(self, status: int, headers: HeaderPairs) -> None:
        self.status = status
        self.headers = headers


class Exchange:
    """One request and its reply.

    `head()` first, then `chunk()` until it returns b"" at the end of the body.
    Both raise `UpstreamFailure`. `abandon()` at any time, any number of times.
    """

    def __init__(
        self, transport: httpx.AsyncBaseTransport, request: UpstreamRequest, connect_limit: float
    ) -> None:
        self._queue: asyncio.Queue[Head | bytes | UpstreamFailure] = asyncio.Queue(QUEUED_CHUNKS)
        self._inflate: _Inflate | None = None
        self._over = False
        self._abandoned = False
        self._held = False
        self._scope = anyio.CancelScope()
        self.task = asyncio.create_task(self._own(transport, request, connect_limit))

    async def head(self, deadline: Deadline) -> Head:
        """The reply's status and headers."""
        head = await self._next(deadline)
        assert isinstance(head, Head)
        self._inflate = _inflater(header(head.headers, b"content-encoding"))
        return head

    async def chunk(self, deadline: Deadline) -> bytes:
        """The next bytes of the body, decompressed; b"" at its end."""
        while not self._over:
            chunk = await self._next(deadline)
            assert isinstance(chunk, bytes)
            if not chunk:
                self._over = True
                return self._inflate.end() if self._inflate else b""
            data = self._inflate.feed(chunk) if self._inflate else chunk
            if data:
                return data
        return b""

    async def _next(self, deadline: Deadline) -> Head | bytes:
        if self._queue.empty():
            try:
                async with asyncio.timeout_at(deadline.at):
                    item = await self._queue.get()
            except TimeoutError:
                raise TimeLimitExceeded(deadline.limit, deadline.seconds) from None
        else:
            item = self._queue.get_nowait()
        if isinstance(item, UpstreamFailure):
            raise item
        return item

    def abandon(self) -> None:
        """Let go of the reply; the owner closes the connection."""
        if not self._abandoned:
            self._abandoned = True
            if not self._held:
                self._scope.cancel()

    def hold_cancellation(self) -> None:
        """A connection is being opened: `abandon` waits until that is over."""
        self._held = True

    def release_cancellation(self) -> None:
        """That is over; an `abandon` in the meantime takes effect at the owner's next step."""
        self._held = False
        if self._abandoned:
            self._scope.cancel()

    async def _own(
        self, transport: httpx.AsyncBaseTransport, request: UpstreamRequest, connect_limit: float
    ) -> None:
        with self._scope:
            await self._converse(transport, request, connect_limit)

    async def _converse(
        self, transport: httpx.AsyncBaseTransport, request: UpstreamRequest, connect_limit: float
    ) -> None:
        try:
            response = await _open(transport, request, connect_limit, self)
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
            end = NetworkFailure(_what_broke(error))
        finally:
            with anyio.CancelScope(shield=True), contextlib.suppress(httpx.HTTPError, OSError):
                await response.aclose()
        await self._queue.put(end)


class UpstreamClient:
    """Sends requests to providers; one a worker, for all of them."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """`transport` replaces the network (tests)."""
        self._given = transport
        self._transports: dict[str | None, httpx.AsyncBaseTransport] = {}
        # Made here, at startup: loading the certificates takes a tenth of a second.
        self._ssl = None if transport else httpx.create_ssl_context()
        self._exchanges: set[Exchange] = set()

    def send(self, request: UpstreamRequest, connect_limit: float) -> Exchange:
        """Begin an exchange. `connect_limit` in seconds."""
        exchange = Exchange(self._transport_for(request.url), request, connect_limit)
        self._exchanges.add(exchange)
        exchange.task.add_done_callback(lambda task: self._exchanges.discard(exchange))
        return exchange

    @property
    def open_exchanges(self) -> int:
        return len(self._exchanges)

    async def close(self) -> None:
        """Abandon what is still open, wait until it is closed, close the pools."""
        tasks = [exchange.task for exchange in self._exchanges]
        for exchange in list(self._exchanges):
            exchange.abandon()
        if tasks:
            _, still_connecting = await asyncio.wait(tasks, timeout=CLOSE_GRACE)
            for task in still_connecting:
                task.cancel()
        for transport in self._transports.values():
            await transport.aclose()
        self._transports.clear()

    def _transport_for(self, url: str) -> httpx.AsyncBaseTransport:
        if self._given is not None:
            return self._given
        proxy = _environment_proxy(urlsplit(url))
        transport = self._transports.get(proxy)
        if transport is None:
            transport = self._transports[proxy] = httpx.AsyncHTTPTransport(
                verify=self._ssl or True,
                proxy=proxy,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=256),
            )
        return transport


async def _open(
    transport: httpx.AsyncBaseTransport,
    request: UpstreamRequest,
    connect_limit: float,
    exchange: Exchange,
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
                raise NetworkFailure(_what_broke(error)) from error
        except httpx.ConnectTimeout as error:
            raise TimeLimitExceeded("connect", connect_limit) from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise NetworkFailure(_what_broke(error)) from error
    raise NetworkFailure("every kept connection was closed by the provider")


def _httpx_request(
    request: UpstreamRequest, connect_limit: float, trace: _ConnectionTrace
) -> httpx.Request:
    parts = urlsplit(request.url)
    # As they are: httpx would encode the path and the query once more.
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
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
            "target": target.encode(),
            "trace": trace,
        },
    )


def _environment_proxy(url: SplitResult) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name for a URL."""
    proxies = getproxies_environment()
    if not proxies or proxy_bypass(url.hostname or ""):
        return None
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def _what_broke(error: Exception) -> str:
    """A network error for the log: its kind, and its words where it has any."""
    words = str(error).strip()
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


class _Inflate:
    """Incremental gzip and deflate. Raises `InvalidReply` on garbage."""

    MAX_AT_ONCE = 16 * 1024 * 1024

    def __init__(self, window_bits: int) -> None:
        self._decompress = zlib.decompressobj(window_bits)

    def feed(self, data: bytes) -> bytes:
        try:
            out = self._decompress.decompress(data, self.MAX_AT_ONCE)
        except zlib.error as error:
            raise InvalidReply(f"the compressed reply is broken: {error}") from None
        if self._decompress.unconsumed_tail:
            raise InvalidReply("the compressed reply expands beyond all bounds")
        return out

    def end(self) -> bytes:
        if not self._decompress.eof:
            raise NetworkFailure("the compressed reply was cut off")
        return b""


def _inflater(encoding: bytes | None) -> _Inflate | None:
    """A decompressor for a reply that is compressed although nobody asked for it."""
    name = (encoding or b"").strip().lower()
    if name in (b"", b"identity"):
        return None
    if name in (b"gzip", b"x-gzip"):
        return _Inflate(16 + zlib.MAX_WBITS)
    if name == b"deflate":
        return _Inflate(zlib.MAX_WBITS)
    raise InvalidReply(f"the reply is compressed with {name.decode('latin-1')}")
