"""A call never waits for the database; a change in the database is soon in force."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from asgiref.sync import sync_to_async
from django.db import DatabaseError
from django.db.backends.utils import CursorWrapper

from providers.models import ModelMapping, Provider, save_order
from tests.proxy import WITH_DATABASE, Proxy, body_of, fallback, primary, running_proxy, until
from tests.upstreams import STREAM, FakeProvider, ok, refuse, stream

pytestmark = WITH_DATABASE


@contextmanager
def blocked(proxy: Proxy) -> Iterator[None]:
    """While this lasts, no background thread gets anything done at the database."""
    go_on = threading.Event()
    for owner in (proxy.runtime.watcher, proxy.runtime.logbook):
        owner._thread._executor.submit(go_on.wait)
    try:
        yield
    finally:
        go_on.set()


async def test_calls_are_answered_while_the_database_hangs() -> None:
    async with FakeProvider(refuse(429)) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            with blocked(proxy):
                for streaming in (True, False):
                    answer = await proxy.call(body_of(streaming))
                    assert answer["x-ccf-attempts"] == "anthropic-primary=429,openrouter=200"
                assert (await proxy.call(target="/v1/messages/count_tokens")).status == 200
                assert (await proxy.call(method="GET", target="/v1/files")).status == 429
                assert (await proxy.call(headers=[])).status == 401
                assert (await proxy.call(method="GET", target="/healthz")).status == 200
            assert len(await proxy.log(4)) == 4


async def test_no_thread_but_the_background_ones_asks_the_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: set[str] = set()

    async with FakeProvider(stream(*STREAM)) as up, running_proxy(primary(up)) as proxy:
        await proxy.call()
        original = CursorWrapper._execute_with_wrappers  # type: ignore[attr-defined]

        def noted(self: CursorWrapper, *args: object, **options: object) -> object:
            threads.add(threading.current_thread().name.split("_")[0])
            return original(self, *args, **options)

        monkeypatch.setattr(CursorWrapper, "_execute_with_wrappers", noted)
        for _ in range(20):
            assert (await proxy.call()).status == 200
        await until(lambda: "logbook" in threads, "the history is written")
        await until(lambda: "watcher" in threads, "the configuration is watched")
        assert threads == {"logbook", "watcher"}


async def in_force(proxy: Proxy, trail: str) -> None:
    """The next calls go this way, within the second that a watcher takes and a little more."""

    async def met() -> bool:
        return (await proxy.call())["x-ccf-attempts"] == trail

    await until(met, trail, seconds=3)


async def test_a_change_is_in_force_without_a_restart() -> None:
    async with FakeProvider(ok()) as up, FakeProvider(ok()) as other, FakeProvider(ok()) as third:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            await in_force(proxy, "anthropic-primary=200")

            @sync_to_async
            def drag() -> None:
                save_order([Provider.objects.get(name=n).pk for n in ("openrouter", PRIMARY)])

            await drag()
            await in_force(proxy, "openrouter=200")

            @sync_to_async
            def disable_and_add() -> None:
                provider = Provider.objects.get(name="openrouter")
                provider.enabled = False
                provider.save()
                fallback(third, "third", position=0).save()

            await disable_and_add()
            await in_force(proxy, "third=200")

            @sync_to_async
            def map_model() -> None:
                provider = Provider.objects.get(name="third")
                ModelMapping.objects.create(provider=provider, source="*", target="mapped-2")

            await map_model()
            await until(lambda: has_sent(proxy, third, b'"mapped-2"'), "the mapping is in force")


PRIMARY = "anthropic-primary"


async def has_sent(proxy: Proxy, up: FakeProvider, words: bytes) -> bool:
    await proxy.call()
    return words in up.requests[-1].body


async def test_a_call_under_way_keeps_the_configuration_it_began_with() -> None:
    gate = asyncio.Event()
    async with FakeProvider(stream(*STREAM[:3], gate, *STREAM[3:])) as up:
        async with running_proxy(primary(up)) as proxy, proxy.open() as client:
            await client.head()
            await client.chunk()
            await sync_to_async(Provider.objects.all().delete)()
            await sync_to_async(fallback(up, "other").save)()
            await until(
                lambda: [p.name for p in proxy.runtime.snapshot.providers] == ["other"],
                "the new configuration is in force",
            )
            gate.set()
            body = b""
            while chunk := await client.chunk():
                body += chunk
            assert body.endswith(STREAM[-1])


async def test_the_last_good_configuration_stays_in_force_while_the_database_is_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failures = 0

    def down() -> None:
        nonlocal failures
        failures += 1
        raise DatabaseError("connection refused")

    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        monkeypatch.setattr("providers.watcher.current_versions", down)
        await until(lambda: failures >= 2, "the watcher has failed twice")
        assert (await proxy.call()).status == 200
        monkeypatch.undo()
        await sync_to_async(Provider.objects.all().delete)()
        await until(lambda: not proxy.runtime.snapshot.providers, "the watcher goes on")
