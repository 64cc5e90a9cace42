"""One connection: bytes out, the callbacks of asyncio and of the HTTP parser in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import httptools

from proxy.transport.dialing import Origin
from proxy.transport.reply import Headers, Reply

if TYPE_CHECKING:
    from proxy.transport.pool import Pool

MAX_HEAD = 1024 * 1024
"""Bytes that a reply may take until its headers are complete."""

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_BODILESS = frozenset({204, 304})


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
