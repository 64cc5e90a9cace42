"""After the commit: one provider's stream on its way to the client.

No provider is swapped any more. What the upstream says is passed on; if it dies,
the client's connection is aborted behind the last whole event, because Claude
Code takes an invented end for a complete answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable

from providers.routing import TimeLimits
from proxy.attempt import OpenStream, digested, read_on
from proxy.deadlines import Deadline
from proxy.errors import (
    NetworkFailure,
    ProxyError,
    TimeLimitExceeded,
    UpstreamFailure,
    UpstreamRefused,
)

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
PING_SECONDS = 15.0


class StreamBroken(ProxyError):
    """The upstream died after the commit: the connection to the client has to be aborted."""


class ClientGone(Exception):
    """Given to `on_end` when nobody listens any more: the client went away, or the proxy stops."""


class CommittedStream:
    """The chunks for the client; whoever iterates has to call `aclose` at the end.

    `on_end(failure)` is called exactly once, with None for a proper end.
    Iteration raises `StreamBroken`.
    """

    def __init__(
        self,
        stream: OpenStream,
        limits: TimeLimits,
        on_end: Callable[[Exception | None], None],
        on_data: Callable[[bytes], None],
    ) -> None:
        self._stream = stream
        self._limits = limits
        self._on_end = on_end
        self._on_data = on_data
        self._ended = False
        self._data = self._relayed()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._data

    async def aclose(self) -> None:
        """Nobody listens any more. After the last event that is a proper end all the same."""
        self._end(None if self._stream.reader.complete else ClientGone())
        await self._data.aclose()

    async def _relayed(self) -> AsyncGenerator[bytes, None]:
        exchange, reader = self._stream.exchange, self._stream.reader
        data, ended = self._stream.held, self._stream.ended
        self._stream.held = b""
        idle = Deadline(self._limits.idle, "idle")
        while True:
            if data:
                self._on_data(data)
                yield data
                if data is not PING:  # through a ping the provider's silence goes on
                    idle.restart()
            if ended:
                break
            try:
                if reader.pings:
                    data, ended = await self._read_on_or_ping(idle)
                elif reader.quiet_end is None:  # `read_on`, with one coroutine less an event
                    data, ended = digested(reader, await exchange.chunk(idle))
                else:
                    data, ended = await read_on(exchange, reader, idle)
            except UpstreamFailure as failure:
                self._end(failure)
                raise StreamBroken(failure.message) from failure
            except Exception:
                self._end(ProxyError("the proxy failed on this stream; see its log"))
                raise
        self._at_upstream_end()

    async def _read_on_or_ping(self, idle: Deadline) -> tuple[bytes, bool]:
        ping = Deadline(PING_SECONDS, "ping").or_earlier(idle)
        try:
            return await read_on(self._stream.exchange, self._stream.reader, ping)
        except TimeLimitExceeded as silence:
            if silence.limit != "ping":
                raise
            return PING, False

    def _at_upstream_end(self) -> None:
        reader = self._stream.reader
        if reader.complete:
            self._end(None)
        elif reader.error is not None:
            # The upstream said so itself; the client has read it.
            self._end(UpstreamRefused(reader.error))
        else:
            self._end(NetworkFailure("the stream was cut off"))
            raise StreamBroken("the stream was cut off")

    def _end(self, failure: Exception | None) -> None:
        if not self._ended:
            self._ended = True
            self._stream.exchange.abandon()
            self._on_end(failure)
