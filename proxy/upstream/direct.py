"""An exchange on a connection of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from proxy.deadlines import Deadline
from proxy.errors import NetworkFailure, TimeLimitExceeded
from proxy.transport import Connection, ConnectionBroken, Pool, Reply
from proxy.upstream.exchange import MAX_STALE_RETRIES, Exchange, Head
from proxy.upstream.routes import Route, request_target, what_broke
from proxy.wire import UpstreamRequest


class DirectExchange(Exchange):
    """An exchange on a connection of the pool."""

    def __init__(
        self, pool: Pool, route: Route, request: UpstreamRequest, connect_limit: float
    ) -> None:
        self._pool = pool
        self._route = route
        self._request: UpstreamRequest | None = request
        self._connect_limit = connect_limit
        self._reply: Reply | None = None

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
            except ConnectionBroken as error:
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

    async def _connect(self, deadline: Deadline) -> Connection:
        limit = Deadline(self._connect_limit, "connect").or_earlier(deadline)
        try:
            async with asyncio.timeout_at(limit.at):
                return await self._pool.connect(self._route.origin)
        except TimeoutError:
            raise TimeLimitExceeded(limit.limit, limit.seconds) from None
        except (OSError, UnicodeError) as error:
            raise NetworkFailure(what_broke(error)) from error


def _request_head(request: UpstreamRequest, route: Route) -> bytes:
    """Request line and headers. Raises `NetworkFailure` if they would become something else."""
    parts = [request.method.encode(), b" ", request_target(request.url), b" HTTP/1.1\r\nhost: "]
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
