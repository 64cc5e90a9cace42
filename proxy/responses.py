"""A response that carries raw header pairs: Django's own joins duplicates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from django.http.response import HttpResponseBase

from proxy.wire import HeaderPairs


class Chunks(Protocol):
    """A body in pieces. `aclose` is called exactly once, read to the end or not."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


class RelayResponse(HttpResponseBase):
    """Sent by `fallbackproxy.handler.ApiHandler`, which reads these attributes and no others."""

    def __init__(
        self,
        status: int,
        raw_headers: HeaderPairs,
        body: bytes = b"",
        chunks: Chunks | None = None,
    ) -> None:
        # Not Django's own: it makes headers and cookies of another kind.
        self.status_code = status
        self.raw_headers = raw_headers
        self.body = body
        self.chunks = chunks
