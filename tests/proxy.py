"""The proxy itself, under uvicorn in the event loop of a test."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
import uvicorn
from asgiref.sync import sync_to_async

from fallbackproxy.asgi import Application
from providers.health_keeper import HealthKeeper
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
PATIENCE = 20.0


def primary(up: FakeProvider | str, **fields: Any) -> Provider:
    """An unsaved provider that is called with the client's credentials."""
    fields = {"name": "anthropic-primary", "credentials": Provider.Credentials.CLIENT, **fields}
    return Provider(base_url=up if isinstance(up, str) else up.url, **fields)


def fallback(up: FakeProvider | str, name: str = "openrouter", **fields: Any) -> Provider:
    """An unsaved provider with a key of its own."""
    fields = {"api_key": PROVIDER_KEY, **fields}
    return Provider(name=name, base_url=up if isinstance(up, str) else up.url, **fields)


def chat(up: FakeProvider | str, name: str = "llm", **fields: Any) -> Provider:
    """An unsaved provider that speaks Chat Completions."""
    return fallback(up, name, **{"format": "openai", "auth_header": "authorization", **fields})


def body_of(stream: bool = True, model: str = "claude-test", **fields: Any) -> bytes:
    """A small request."""
    messages = [{"role": "user", "content": "Hi"}]
    document = {"model": model, "max_tokens": 64, "messages": messages, **fields}
    return json.dumps({**document, "stream": True} if stream else document).encode()


class Clock:
    """The time of day for the health of providers; it moves when the test says so."""

    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


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

    def headers(self, credential: str = CLIENT_KEY) -> list[tuple[str, str]]:
        """What a client with credentials of its own sends."""
        return [
            ("x-ccf-api-key", self.token),
            ("authorization", f"Bearer {credential}"),
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

    async def share(self) -> None:
        """Have the worker write and read all that workers share, and claim probes that are due."""
        changed = self.runtime.health.changed
        for _ in range(2):  # it is cleared at the beginning of a turn, and turns follow each other
            changed.set()
            await until(lambda: not changed.is_set(), "the worker shares its news")

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
    clock: Callable[[], float] | None = None,
) -> AsyncIterator[Proxy]:
    """The proxy with these providers in this order, and nothing else configured.

    `mappings` by provider's name, `settings` of the `ProxySettings` row (cooldowns
    are off unless they say otherwise), the rest as `serving` takes it.
    """
    token = await _configure(providers, mappings or {}, settings or {})
    async with serving(token, graceful=graceful, sleep=sleep, clock=clock) as proxy:
        yield proxy


@asynccontextmanager
async def serving(
    token: str,
    *,
    graceful: float = 5,
    sleep: Callable[[float], Awaitable[None]] | None = None,
    clock: Callable[[], float] | None = None,
) -> AsyncIterator[Proxy]:
    """A worker of the proxy as it is configured: another one, or the same after a restart.

    `sleep` in place of the wait between retries, `clock` in place of the providers'
    time of day, `graceful` in seconds.
    """
    config = uvicorn.Config(
        Application(),
        lifespan="on",
        log_config=None,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=graceful,  # type: ignore[arg-type]  # a float will do
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    keeper = HealthKeeper if clock is None else partial(HealthKeeper, clock)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        with patch("proxy.runtime.HealthKeeper", keeper):
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
