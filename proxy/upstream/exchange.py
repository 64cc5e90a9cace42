"""One request and its reply, as the rest of the proxy sees them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable

from proxy.deadlines import Deadline
from proxy.errors import NetworkFailure, TimeLimitExceeded
from proxy.inflating import Inflate, inflater
from proxy.transport import ConnectionBroken
from proxy.wire import HeaderPairs, header

MAX_STALE_RETRIES = 5
"""Kept connections, closed by the provider in the meantime, that one request may meet."""


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
            except ConnectionBroken as error:
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
