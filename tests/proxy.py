"""The proxy itself, under uvicorn in the event loop of a test."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from asgiref.sync import sync_to_async

from fallbackproxy.asgi import Application
from providers.models import AccessToken, ModelMapping, Provider, ProxySettings
from proxy.models import Attempt, RequestLog
from proxy.relay import Relay
from proxy.runtime import Runtime
from tests.raw_http import HeaderList, RawConnection, Reply
from tests.upstreams import FakeProvider

WITH_DATABASE = pytest.mark.django_db(transaction=True, available_apps=["providers", "proxy"])
"""For tests that run a proxy: its threads see the rows, and only these tables are emptied."""

CLIENT_KEY = "sk-ant-oat01-the-clients-own-credential"
PROVIDER_KEY = "sk-own-key-of-the-provider-0001"
PATIENCE = 5.0


def primary(up: FakeProvider | str, **fields: Any) -> Provider:
    """An unsaved provider that is called with the client's credentials."""
    fields = {"name": "anthropic-primary", "credentials": Provider.Credentials.CLIENT, **fields}
    return Provider(base_url=up if isinstance(up, str) else up.url, **fields)


def fallback(up: FakeProvider | str, name: str = "openrouter", **fields: Any) -> Provider:
    """An unsaved provider with a key of its own."""
    fields = {"api_key": PROVIDER_KEY, **fields}
    return Provider(name=name, base_url=up if isinstance(up, str) else up.url, **fields)


def body_of(stream: bool = True, model: str = "claude-test", **fields: Any) -> bytes:
    """A small request."""
    messages = [{"role": "user", "content": "Hi"}]
    document = {"model": model, "max_tokens": 64, "messages": messages, **fields}
    return json.dumps({**document, "stream": True} if stream else document).encode()


class Proxy:
    """A running proxy and the token that opens it."""

    def __init__(self, server: uvicorn.Server, port: int, runtime: Runtime, token: str) -> None:
        self.server = server
        self.port = port
        self.runtime = runtime
        self.token = token

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def headers(self) -> list[tuple[str, str]]:
        """What a client with credentials of its own sends."""
        return [
            ("x-ccf-api-key", self.token),
            ("authorization", f"Bearer {CLIENT_KEY}"),
            ("content-type", "application/json"),
        ]

    @asynccontextmanager
    async def open(
        self,
        body: bytes | None = None,
        *,
        method: str = "POST",
        target: str | bytes = "/v1/messages",
        headers: HeaderList | None = None,
        extra: HeaderList = (),
    ) -> AsyncIterator[RawConnection]:
        """A connection on which a call has been sent; its reply is the test's to read."""
        if body is None and method == "POST":
            body = body_of()
        async with await RawConnection.to(self.port) as connection:
            base = self.headers() if headers is None else headers
            await connection.send(method, target, [*base, *extra], body)
            yield connection

    async def call(
        self,
        body: bytes | None = None,
        *,
        method: str = "POST",
        target: str | bytes = "/v1/messages",
        headers: HeaderList | None = None,
        extra: HeaderList = (),
    ) -> Reply:
        """One call on a connection of its own, read to the end."""
        async with self.open(
            body, method=method, target=target, headers=headers, extra=extra
        ) as connection:
            return await connection.reply()

    async def log(self, rows: int) -> list[RequestLog]:
        """The request log, oldest first, as soon as it has so many rows."""
        await until(lambda: _count(rows), f"{rows} rows in the request log")
        return await sync_to_async(lambda: list(RequestLog.objects.order_by("id")))()

    async def attempts(self, rows: int = 1) -> list[list[Attempt]]:
        """The attempts of each call in the request log."""
        calls = await self.log(rows)
        return await sync_to_async(lambda: [list(call.attempts.all()) for call in calls])()

    async def stop(self) -> None:
        """A graceful stop, as after SIGTERM."""
        await self.server.shutdown()


@sync_to_async
def _count(rows: int) -> bool:
    return RequestLog.objects.count() >= rows


@asynccontextmanager
async def running_proxy(
    *providers: Provider,
    mappings: dict[str, dict[str, str]] | None = None,
    settings: dict[str, Any] | None = None,
    graceful: float = 5,
    sleep: Callable[[float], Awaitable[None]] | None = None,
) -> AsyncIterator[Proxy]:
    """The proxy with these providers in this order, and nothing else configured.

    `mappings` by provider's name, `settings` of the `ProxySettings` row (cooldowns
    are off unless they say otherwise), `sleep` in place of the wait between
    retries, `graceful` in seconds.
    """
    token = await _configure(providers, mappings or {}, settings or {})
    config = uvicorn.Config(
        Application(),
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=graceful,  # type: ignore[arg-type]  # a float will do
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        await server.startup(sockets=[listener])
        runtime = server.lifespan.state["runtime"]
        if sleep is not None:
            runtime.relay = Relay(runtime.upstream, runtime.health, runtime.knowledge.table, sleep)
        proxy = Proxy(server, listener.getsockname()[1], runtime, token)
        try:
            yield proxy
        finally:
            if not server.lifespan.shutdown_event.is_set():
                await proxy.stop()


@sync_to_async
def _configure(
    providers: Iterable[Provider], mappings: dict[str, dict[str, str]], settings: dict[str, Any]
) -> str:
    Provider.objects.all().delete()  # the one that the migrations have made
    for position, provider in enumerate(providers):
        provider.position = position
        provider.save()
        for source, target in mappings.get(provider.name, {}).items():
            ModelMapping.objects.create(provider=provider, source=source, target=target)
    ProxySettings(**{"max_cooldown": 0, **settings}).save()
    return AccessToken.issue("the test's client")[1]


async def until(
    condition: Callable[[], bool | Awaitable[bool]], what: str, seconds: float = PATIENCE
) -> None:
    """Poll for a condition, with a deadline."""
    end = time.monotonic() + seconds
    while True:
        met = condition()
        if met if isinstance(met, bool) else await met:
            return
        assert time.monotonic() < end, f"after {seconds} s still not: {what}"
        await asyncio.sleep(0.005)
