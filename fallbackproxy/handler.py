"""Serves the API paths: Django's routing and views, without its middleware and threads.

Django's own ASGI handler spends six times as long on a request, most of it in
thread hops for middleware and signals that the API does not need.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.urls import Resolver404, ResolverMatch, get_resolver

from proxy.errors import ClientError, NotFound, RequestTooLarge, error_body
from proxy.requests import ApiRequest
from proxy.responses import RelayResponse
from proxy.stream import StreamBroken
from proxy.views import error_response, request_id_of

logger = logging.getLogger("ccf.handler")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

DRAIN_FACTOR = 4
"""How much of an oversized body is read, in limits, so that its sender hears the answer."""


class Disconnected(Exception):
    """The client went away before its request was complete."""


class ApiHandler:
    """An ASGI application for HTTP requests of API clients."""

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        request = ApiRequest(scope, b"")
        with request.runtime.live_call():
            try:
                request.give_body(await _read_body(scope, receive, settings.MAX_BODY_BYTES))
            except Disconnected:
                return
            except ClientError as error:
                await _send(error_response(error, request_id_of(request)), send)
                return
            await _until_disconnect(receive, _respond(request, send))


async def _respond(request: ApiRequest, send: Send) -> None:
    try:
        response = await _call_view(request)
    except Exception:
        request_id = request_id_of(request)
        logger.exception("request.crash", extra={"fields": {"request_id": request_id}})
        body = error_body(500, "the proxy failed on this call; see its log", request_id)
        headers = [(b"content-type", b"application/json"), (b"ccr-request-id", request_id.encode())]
        response = RelayResponse(500, headers, body)
    del request
    await _send(response, send)


async def _call_view(request: ApiRequest) -> RelayResponse:
    try:
        match = _match(request.path)
    except Resolver404:
        error = NotFound(f"{request.path}: no such endpoint")
        return error_response(error, request_id_of(request))
    response: RelayResponse = await match.func(request, *match.args, **match.kwargs)
    return response


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


async def _read_body(scope: dict[str, Any], receive: Receive, limit: int) -> bytes:
    """The whole body. Raises `RequestTooLarge`, `InvalidRequest`, `Disconnected`."""
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
        if not message.get("more_body") or size > limit * DRAIN_FACTOR:
            break
    if size > limit:
        raise RequestTooLarge(f"the request is larger than {limit} bytes")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _until_disconnect(receive: Receive, work: Awaitable[None]) -> None:
    """Do `work`, unless the client goes away first: then cancel it.

    A `receive` stays pending all the time: without it a client that leaves is
    not noticed while its stream is quiet.
    """
    task = asyncio.current_task()
    assert task is not None
    gone = False

    async def listen() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    listener = asyncio.create_task(listen())
    try:
        await work
    except asyncio.CancelledError:
        if not gone or task.uncancel():
            raise
    finally:
        listener.cancel()
