"""The connections of one worker: which are kept, and for how long."""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict

from proxy.transport.connection import Connection
from proxy.transport.dialing import Origin, connected_socket

KEEP_SECONDS = 60.0
"""How long an unused connection is kept."""

MAX_IDLE = 256
"""Unused connections that are kept for one origin."""


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
        peer = await connected_socket(origin.host, origin.port)
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
