"""One reply as it arrives, and its reader, who waits for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from proxy.transport.connection import Connection

HIGH_WATER = 64 * 1024
"""Bytes of a reply that nobody has read yet, from which on its provider has to wait."""

Headers = list[tuple[bytes, bytes]]


class ConnectionBroken(Exception):
    """The peer has closed the connection, or has sent what is not HTTP.

    `silent`: before it had sent a single byte of the reply.
    """

    def __init__(self, message: str, *, silent: bool) -> None:
        super().__init__(message)
        self.silent = silent


class Reply:
    """One reply as it arrives. `head()` first, then `take()` until it returns b"".

    `head` and `news` take a point in time on the loop's clock, and raise `TimeoutError`;
    `head` and `take` raise `ConnectionBroken`. For one reader.
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

    def take(self) -> bytes | None:
        """All that has arrived of the body since the last time; b"" at its end; None if nothing
        has: then `news` is to be awaited."""
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
