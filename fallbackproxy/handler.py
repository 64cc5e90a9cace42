"""Serves the API paths: Django's routing and views, without its middleware and threads.

Django's own ASGI handler spends six times as long on a request, most of it in
thread hops for middleware and signals that the API does not need.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.urls import Resolver404, ResolverMatch, get_resolver

from proxy.errors import ClientError, NotFound, RequestTooLarge, error_body
from proxy.requests import ApiRequest
from proxy.responses import RelayResponse
from proxy.stream import StreamBroken
from proxy.views import admit, error_response, is_public, request_id_of
from proxy.wire import header

logger = logging.getLogger("ccf.handler")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

DRAIN_FACTOR = 4
"""How much of a body that nobody wants is read, in limits, so that its sender hears the answer."""
DRAIN_SECONDS = 30.0
"""And for how long, where the sender is not even known."""
NOTICE_SECONDS = 0.05
"""After so long somebody listens for a client that leaves."""


class Disconnected(Exception):
    """The client went away before its request was complete."""


class ApiHandler:
    """An ASGI application for HTTP requests of API clients."""

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        request = ApiRequest(scope, b"")
        with request.runtime.live_calls:
            try:
                match = _match(request.path)
                if is_public(match.func):
                    await _drain(receive)
                else:
                    # From the headers alone: strangers do not get to fill the memory.
                    admit(request)
                    limit = settings.MAX_BODY_BYTES
                    request.give_body(await _read_body(receive, limit, limit * DRAIN_FACTOR))
            except Disconnected:
                return
            except RequestTooLarge as error:
                await _send(error_response(error, request_id_of(request)), send)
            except Exception as error:
                await _refuse(request, error, receive, send)
            else:
                with _CancelledIfLeft(receive, request):
                    await _send(await _respond(match, request), send)


async def _refuse(request: ApiRequest, error: Exception, receive: Receive, send: Send) -> None:
    """Answer a request whose body has not been read.

    Who asks before it sends a body need not send it. The connection is of no
    further use then: what comes next on it may still be that body.
    """
    response = _failure(request, error)
    if (header(request.raw_headers, b"expect") or b"").lower() == b"100-continue":
        response.raw_headers = [*response.raw_headers, (b"connection", b"close")]
    else:
        try:
            await _drain(receive)
        except Disconnected:
            return
    await _send(response, send)


async def _respond(match: ResolverMatch, request: ApiRequest) -> RelayResponse:
    try:
        response: RelayResponse = await match.func(request, *match.args, **match.kwargs)
        return response
    except Exception as error:
        return _failure(request, error)


def _failure(request: ApiRequest, error: Exception) -> RelayResponse:
    request_id = request_id_of(request)
    if isinstance(error, Resolver404):
        error = NotFound(f"{request.path}: no such endpoint")
    if isinstance(error, ClientError):
        return error_response(error, request_id)
    logger.error("request.crash", exc_info=error, extra={"fields": {"request_id": request_id}})
    body = error_body(500, "the proxy failed on this call; see its log", request_id)
    headers = [(b"content-type", b"application/json"), (b"ccr-request-id", request_id.encode())]
    return RelayResponse(500, headers, body)


@lru_cache(maxsize=256)
def _match(path: str) -> ResolverMatch:
    """The view of a path. Django tries one pattern after the other at every request."""
    return get_resolver().resolve(path)


async def _send(response: RelayResponse, send: Send) -> None:
    """Send a response; one that breaks off is left without its last part.

    The server takes that for an abort and closes the connection, which is what
    the client has to see.
    """
    headers = list(response.raw_headers)
    if response.chunks is None:
        headers.append((b"content-length", b"%d" % len(response.body)))
    start = {"type": "http.response.start", "status": response.status_code, "headers": headers}
    if response.chunks is None:
        await send(start)
        await send({"type": "http.response.body", "body": response.body})
        return
    try:
        await send(start)
        async for chunk in response.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    except StreamBroken:
        pass
    finally:
        await response.chunks.aclose()


async def _read_body(receive: Receive, limit: int, most: int) -> bytes:
    """The whole body. Raises `RequestTooLarge`, after no more than `most` bytes; `Disconnected`."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        elif chunks:
            chunks.clear()
        if not message.get("more_body") or size > most:
            break
    if size > limit:
        raise RequestTooLarge(f"the request is larger than {limit} bytes")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _drain(receive: Receive) -> None:
    """Read a body that nobody wants, and keep nothing of it. Raises `Disconnected`."""
    with suppress(RequestTooLarge, TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            await _read_body(receive, 0, settings.MAX_BODY_BYTES * DRAIN_FACTOR)


class _CancelledIfLeft:
    """Around the work for a client: that is cancelled when the client goes away first.

    From `NOTICE_SECONDS` on a `receive` stays pending all the time: without it a client that
    leaves is not noticed while its stream is quiet. A call that is over sooner does without.
    """

    __slots__ = ("_listener", "_receive", "_request", "_task", "_timer")

    def __init__(self, receive: Receive, request: ApiRequest) -> None:
        self._receive = receive
        self._request = request
        self._listener: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = task.get_loop().call_later(NOTICE_SECONDS, self._begin)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> bool:
        self._timer.cancel()
        if self._listener is not None:
            self._listener.cancel()
        cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
        return cancelled and self._request.client_left and not self._task.uncancel()

    def _begin(self) -> None:
        self._listener = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._request.client_left = True
        self._task.cancel()
