"""HTTP to the providers. The only module that imports httpx.

Requests go out on `proxy.transport`. Where HTTP_PROXY and its kin name a proxy, and where a
transport was given, httpx does it. That can lose a connection whose request is cancelled while
it is being opened or closed, and a client that presses Esc is a cancellation: so such an
exchange is owned by a task of its own, which always closes its response itself; the caller
talks to it through a bounded queue. It is cancelled by an anyio scope: httpcore shields its
closing from those, but not from asyncio's own cancellation.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import anyio
import httpx

from proxy import transport
from proxy.deadlines import Deadline
from proxy.errors import NetworkFailure, TimeLimitExceeded, UpstreamFailure
from proxy.inflating import Inflate, inflater
from proxy.transport import Origin, Pool
from proxy.wire import HeaderPairs, UpstreamRequest, header

QUEUED_CHUNKS = 4
MAX_STALE_RETRIES = 5
CLOSE_GRACE = 5.0
HELD_SECONDS = 60.0
"""How long an abandoned connection may take to open; a deaf proxy would take for ever."""
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


class Head:
    """Status and headers of a reply. Names in lower case, duplicates kept."""

    __slots__ = ("headers", "status")

    def __init__(self, status: int, headers: HeaderPairs) -> None:
        self.status = status
        self.headers = headers


class Exchange(ABC):
    """One request and its reply.

    `head()` first, then `chunk()` until it returns b"" at the end of the body.
    Both raise `UpstreamFailure`. `abandon()` at any time, any number of times.
    """

    _inflate: Inflate | None = None
    _over: bool = False

    async def head(self, deadline: Deadline) -> Head:
        """The reply's status and headers."""
        head = await self._head(deadline)
        self._inflate = inflater(header(head.headers, b"content-encoding"))
        return head

    async def chunk(self, deadline: Deadline) -> bytes:
        """The next bytes of the body, decompressed; b"" at its end."""
        while not self._over:
            try:
                while (chunk := self._take()) is None:
                    await self._news(deadline)
            except TimeoutError:
                raise TimeLimitExceeded(deadline.limit, deadline.seconds) from None
            except transport.ConnectionBroken as error:
                raise NetworkFailure(str(error)) from error
            if not chunk:
                self._over = True
                return self._inflate.end() if self._inflate else b""
            data = self._inflate.feed(chunk) if self._inflate else chunk
            if data:
                return data
        return b""

    @abstractmethod
    def abandon(self) -> None:
        """Let go of the reply and its connection."""

    @abstractmethod
    async def _head(self, deadline: Deadline) -> Head: ...

    @abstractmethod
    def _take(self) -> bytes | None:
        """The next bytes as they came, b"" at the end, None if none have come.

        May also raise `ConnectionBroken`.
        """

    @abstractmethod
    def _news(self, deadline: Deadline) -> Awaitable[None]:
        """To be awaited where nothing has come. May also raise `TimeoutError`."""


class DirectExchange(Exchange):
    """An exchange on a connection of the pool."""

    def __init__(
        self, pool: Pool, route: _Route, request: UpstreamRequest, connect_limit: float
    ) -> None:
        self._pool = pool
        self._route = route
        self._request: UpstreamRequest | None = request
        self._connect_limit = connect_limit
        self._reply: transport.Reply | None = None

    def abandon(self) -> None:
        self._request = None
        if self._reply is not None:
            self._reply.abandon()

    async def _head(self, deadline: Deadline) -> Head:
        """Send the request and wait for the head of its reply.

        A kept connection that turns out to be dead before any byte of the reply
        is nobody's failure: the request is sent again, until it had a connection
        of its own.
        """
        request, self._request = self._request, None
        if request is None:
            raise NetworkFailure("the request was abandoned")
        head = _request_head(request, self._route)
        for _ in range(MAX_STALE_RETRIES):
            connection = self._pool.kept(self._route.origin)
            is_new = connection is None
            if connection is None:
                connection = await self._connect(deadline)
            bodiless = request.method == "HEAD"
            self._reply = connection.begin(head, request.body, bodiless=bodiless)
            try:
                return Head(*await self._reply.head(deadline.at))
            except transport.ConnectionBroken as error:
                if is_new or not error.silent:
                    raise NetworkFailure(str(error)) from error
            except TimeoutError:
                raise TimeLimitExceeded(deadline.limit, deadline.seconds) from None
        raise NetworkFailure("every kept connection was closed by the provider")

    def _take(self) -> bytes | None:
        assert self._reply is not None
        return self._reply.take()

    def _news(self, deadline: Deadline) -> Awaitable[None]:
        assert self._reply is not None
        return self._reply.news(deadline.at)

    async def _connect(self, deadline: Deadline) -> transport.Connection:
        limit = Deadline(self._connect_limit, "connect").or_earlier(deadline)
        try:
            async with asyncio.timeout_at(limit.at):
                return await self._pool.connect(self._route.origin)
        except TimeoutError:
            raise TimeLimitExceeded(limit.limit, limit.seconds) from None
        except (OSError, UnicodeError) as error:
            raise NetworkFailure(_what_broke(error)) from error


class FailedExchange(Exchange):
    """An exchange that cannot even begin."""

    def __init__(self, message: str) -> None:
        self._message = message

    def abandon(self) -> None:
        """There is nothing to let go of."""

    async def _head(self, deadline: Deadline) -> Head:
        raise NetworkFailure(self._message)

    def _take(self) -> bytes | None:
        raise NetworkFailure(self._message)

    async def _news(self, deadline: Deadline) -> None:
        raise NetworkFailure(self._message)


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
        # Made here, at startup: loading the certificates takes a tenth of a second.
        self._tls = httpx.create_ssl_context()
        self._tls.set_alpn_protocols(["http/1.1"])
        self.pool = Pool(self._tls)
        self._through_proxies: dict[str, httpx.AsyncBaseTransport] = {}
        self._owned: set[OwnedExchange] = set()
        self._routes: dict[tuple[str, str], _Route] = {}

    def send(self, request: UpstreamRequest, connect_limit: float) -> Exchange:
        """Begin an exchange. `connect_limit` in seconds."""
        try:
            route = self._route_to(request.url)
        except ValueError as error:
            return FailedExchange(f"the URL of the provider is not valid: {error}")
        if self._given is not None:
            return self._send_owned(self._given, request, connect_limit)
        if route.proxy is not None:
            return self._send_owned(self._through(route.proxy), request, connect_limit)
        return DirectExchange(self.pool, route, request, connect_limit)

    @property
    def open_exchanges(self) -> int:
        return len(self._owned) + self.pool.busy

    async def close(self) -> None:
        """Abandon what is still open, wait until it is closed, close the pools."""
        self.pool.close()
        tasks = [exchange.task for exchange in self._owned]
        for exchange in list(self._owned):
            exchange.abandon()
        if tasks:
            _, still_connecting = await asyncio.wait(tasks, timeout=CLOSE_GRACE)
            for task in still_connecting:
                task.cancel()
        for through in self._through_proxies.values():
            await through.aclose()
        self._through_proxies.clear()

    def _send_owned(
        self, transport: httpx.AsyncBaseTransport, request: UpstreamRequest, connect_limit: float
    ) -> OwnedExchange:
        exchange = OwnedExchange(transport, request, connect_limit)
        self._owned.add(exchange)
        exchange.task.add_done_callback(lambda task: self._owned.discard(exchange))
        return exchange

    def _through(self, proxy: str) -> httpx.AsyncBaseTransport:
        through = self._through_proxies.get(proxy)
        if through is None:
            through = self._through_proxies[proxy] = httpx.AsyncHTTPTransport(
                verify=self._tls,
                proxy=proxy,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=256),
            )
        return through

    def _route_to(self, url: str) -> _Route:
        """Where a URL leads. Found out once: to ask the environment takes 0.1 ms."""
        parts = urlsplit(url)
        key = (parts.scheme, parts.netloc)
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = _Route.to(parts)
        return route


class _Route(NamedTuple):
    """The way to an origin: directly, or through a proxy that the environment names."""

    origin: Origin
    host: bytes
    proxy: str | None

    @classmethod
    def to(cls, url: SplitResult) -> _Route:
        """Raises `ValueError`."""
        if url.scheme not in _PORTS or not url.hostname:
            raise ValueError("it has to begin with http:// or https:// and a host")
        origin = Origin(url.scheme, url.hostname, url.port or _PORTS[url.scheme])
        host = url.netloc.rpartition("@")[2]
        return cls(origin, host.encode("ascii" if host.isascii() else "idna"), _proxy_for(url))


_PORTS = {"http": 80, "https": 443}


def _request_head(request: UpstreamRequest, route: _Route) -> bytes:
    """Request line and headers. Raises `NetworkFailure` if they would become something else."""
    parts = [request.method.encode(), b" ", _request_target(request.url), b" HTTP/1.1\r\nhost: "]
    parts += (route.host, b"\r\n")
    for name, value in request.headers:
        parts += (name, b": ", value, b"\r\n")
    lines = len(request.headers) + 3
    if request.body or request.method not in ("GET", "HEAD"):
        parts.append(b"content-length: %d\r\n" % len(request.body))
        lines += 1
    parts.append(b"\r\n")
    head = b"".join(parts)
    if head.count(b"\n") != lines or head.count(b"\r") != lines:
        raise NetworkFailure("a header of the request has more than one line")
    return head


def _request_target(url: str) -> bytes:
    """Path and query as they are: httpx would encode them once more."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return target.encode()


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
            "target": _request_target(request.url),
            "trace": trace,
        },
    )


def _proxy_for(url: SplitResult) -> str | None:
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
