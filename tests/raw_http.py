"""An HTTP client that hides nothing: raw header pairs, single chunks, aborted bodies."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

HeaderList = Iterable[tuple[str | bytes, str | bytes]]

PATIENCE = 20.0
"""Seconds after which a test gives up on the proxy."""


class Aborted(Exception):
    """The connection ended before the body did."""


@dataclass(frozen=True)
class Reply:
    """A whole reply. `aborted`: its body was not brought to a proper end."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    aborted: bool = False

    def __getitem__(self, name: str) -> str | None:
        """The only value of a header, None when it is absent."""
        values = self.values(name)
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error_type(self) -> str:
        """The type in Anthropic's error envelope."""
        return str(self.json()["error"]["type"])


class RawConnection:
    """One connection to the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._method = ""
        self._left: int | None = None
        self._over = False

    @classmethod
    async def to(cls, port: int) -> RawConnection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(
        self,
        method: str,
        target: str | bytes,
        headers: HeaderList = (),
        body: bytes | None = None,
    ) -> None:
        self._method, self._over = method, False
        lines = [method.encode() + b" " + _bytes(target) + b" HTTP/1.1", b"host: proxy.test"]
        lines += [_bytes(name) + b": " + _bytes(value) for name, value in headers]
        if body is not None:
            lines.append(b"content-length: %d" % len(body))
        await self.send_raw(b"\r\n".join(lines) + b"\r\n\r\n" + (body or b""))

    async def send_raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def head(self) -> tuple[int, list[tuple[str, str]]]:
        async with asyncio.timeout(PATIENCE):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        headers = [(line.split(": ")[0], line.split(": ", 1)[1]) for line in lines]
        length = next((int(v) for n, v in headers if n == "content-length"), None)
        self._left = 0 if self._method == "HEAD" else length
        return int(first.split(" ")[1]), headers

    async def chunk(self) -> bytes:
        """The next chunk of the body; b"" at its proper end. Raises `Aborted`."""
        if self._over:
            return b""
        try:
            async with asyncio.timeout(PATIENCE):
                if self._left is not None:
                    self._over = True
                    return await self._reader.readexactly(self._left)
                size = int(await self._reader.readuntil(b"\r\n"), 16)
                data = await self._reader.readexactly(size + 2)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Aborted from None
        self._over = not size
        return data[:-2]

    async def reply(self) -> Reply:
        status, headers = await self.head()
        chunks = []
        try:
            while data := await self.chunk():
                chunks.append(data)
        except Aborted:
            return Reply(status, headers, b"".join(chunks), aborted=True)
        return Reply(status, headers, b"".join(chunks))

    def leave(self, *, reset: bool = True) -> None:
        """Go away at once; by default as Claude Code does it on Esc, with a reset."""
        if reset:
            sock = self._writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._writer.transport.abort()

    async def __aenter__(self) -> RawConnection:
        return self

    async def __aexit__(self, *unused: object) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            pass


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")
