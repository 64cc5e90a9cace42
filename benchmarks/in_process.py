"""Whole calls in one process: the proxy's own work alone, without sockets, server and database."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from unittest import mock

from benchmarks import payloads, upstream
from fallbackproxy.handler import ApiHandler
from providers.routing import Credentials, ProviderSpec, Settings, Snapshot, TokenSpec
from proxy.runtime import Runtime
from proxy.transport import Connection, Origin, Pool

EVENTS_AT_ONCE = 30
_TOKEN = b"benchmark-token"


class _Wire:
    """An asyncio transport whose other end answers at once."""

    def __init__(self, connection: Connection, parts: list[bytes]) -> None:
        self._connection = connection
        self._parts = parts
        self._loop = asyncio.get_running_loop()
        self._closing = False

    def write(self, data: bytes) -> None:
        self._loop.call_soon(self._answer, 0)

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        self.write(parts[0])

    def _answer(self, position: int) -> None:
        self._connection.data_received(self._parts[position])
        if position + 1 < len(self._parts):
            self._loop.call_soon(self._answer, position + 1)

    def is_closing(self) -> bool:
        return self._closing

    def abort(self) -> None:
        self._closing = True

    def get_write_buffer_size(self) -> int:
        return 0


def small_call() -> tuple[bytes, list[bytes]]:
    """A request of 1 KB and its reply."""
    return payloads.small_request(), [upstream.JSON]


def large_call() -> tuple[bytes, list[bytes]]:
    """A request of 256 KB and its stream, in portions of 30 events."""
    events = [upstream.STREAM_HEAD, *upstream.BURST]
    groups = range(0, len(events), EVENTS_AT_ONCE)
    return payloads.large_request(), [b"".join(events[n : n + EVENTS_AT_ONCE]) for n in groups]


class Calls:
    """Makes one kind of call again and again."""

    def __init__(self, body: bytes, parts: list[bytes], *, translates: bool = False) -> None:
        """`translates`: with a disabled provider of another wire format, so that bodies have to be
        looked at."""
        self._body = body
        self._parts = parts
        self._handler = ApiHandler()
        self._runtime = Runtime()
        primary = ProviderSpec(
            1, "anthropic-primary", "http://127.0.0.1:1", credentials=Credentials.CLIENT
        )
        second = ProviderSpec(2, "second", "http://127.0.0.1:2", api_key="sk-second")
        tokens = {hashlib.sha256(_TOKEN).digest(): TokenSpec(1, "benchmark")}
        self._runtime.watcher.snapshot = Snapshot(
            1, (primary, second), tokens, Settings(), translates
        )

    async def make(self, number: int) -> None:
        for _ in range(number):
            await self._handler(self._scope(), self._receiver(), self._send)
        self._runtime.logbook.__dict__["_waiting"].clear()

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start" and message["status"] != 200:
            raise RuntimeError(f"a call was answered with {message['status']}")

    def _receiver(self) -> Any:
        pending = [{"type": "http.request", "body": self._body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not pending:
                await asyncio.Event().wait()
            return pending.pop()

        return receive

    def _scope(self) -> dict[str, Any]:
        headers = [
            (b"host", b"127.0.0.1:8787"),
            (b"x-ccf-api-key", _TOKEN),
            (b"authorization", b"Bearer sk-ant-oat01-benchmark-client"),
            (b"anthropic-version", b"2023-06-01"),
            (b"x-claude-code-session-id", b"01234567-89ab-cdef-0123-456789abcdef"),
            (b"content-type", b"application/json"),
        ]
        return {
            "type": "http",
            "method": "POST",
            "path": "/v1/messages",
            "raw_path": b"/v1/messages",
            "query_string": b"",
            "headers": headers,
            "state": {"runtime": self._runtime},
        }

    @contextmanager
    def wired(self) -> Iterator[None]:
        """In place of the network."""

        async def connect(pool: Pool, origin: Origin) -> Connection:
            connection = Connection(pool, origin)
            connection.connection_made(cast("asyncio.Transport", _Wire(connection, self._parts)))
            return connection

        with mock.patch.object(Pool, "connect", connect):
            yield
