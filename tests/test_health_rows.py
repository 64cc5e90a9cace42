"""Provider health in the database takes whatever the workers have seen."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import DataError

from providers.database import DatabaseThread
from providers.health import (
    Caller,
    EventKind,
    HealthEvent,
    HealthKey,
    HealthRow,
    failure,
    outcome_of,
)
from providers.health_keeper import HealthKeeper
from providers.health_store import claim_leases, write_events
from providers.knowledge_store import KnowledgeKeeper
from providers.loading import Versions
from providers.models import Provider, ProviderHealth
from providers.routing import ProviderSpec, Settings, Target
from providers.watcher import POLL_SECONDS, Watcher
from tests.proxy import WITH_DATABASE, until

pytestmark = WITH_DATABASE

NOW = 1_760_000_000.0

RETRY = 0.5
"""Seconds after which Claude Code tries again when its stream has died."""

NEVER = 3600.0


def a_provider() -> Provider:
    return Provider.objects.create(name="one", base_url="https://one.example", api_key="key-1")


def test_more_keys_than_a_query_may_name_one_by_one_are_written_at_once() -> None:
    provider = a_provider()
    keys = [HealthKey(provider.pk, f"c{n % 7}", f"m{n}") for n in range(1500)]
    events = [HealthEvent(key, EventKind.FAILURE, NOW, reason="429") for key in keys]
    assert {row.key for row in write_events(events, Settings(), NOW)} == set(keys)
    assert ProviderHealth.objects.count() == 1500


def test_keys_that_share_credential_and_model_crosswise_are_kept_apart() -> None:
    provider = a_provider()
    every = [HealthKey(provider.pk, credential, model) for credential in "ab" for model in "xy"]
    write_events([HealthEvent(key, EventKind.FAILURE, NOW) for key in every], Settings(), NOW)
    (row,) = write_events([HealthEvent(every[0], EventKind.FAILURE, NOW)], Settings(), NOW)
    assert (row.key, row.failures) == (every[0], 2)
    assert claim_leases([every[0], every[3]], "worker", Settings(), NOW) == {}
    assert sorted(ProviderHealth.objects.values_list("failures", flat=True)) == [1, 1, 1, 2]


async def test_a_stop_in_the_middle_of_a_write_counts_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = await sync_to_async(a_provider)()
    begun, go_on = threading.Event(), threading.Event()

    def slowly(*arguments: Any) -> list[HealthRow]:
        begun.set()
        assert go_on.wait(5)
        return write_events(*arguments)

    monkeypatch.setattr("providers.health_keeper.write_events", slowly)
    keeper, caller = HealthKeeper(lambda: NOW), Caller()
    watcher = Watcher(keeper, KnowledgeKeeper(), poll_seconds=0.01)
    await watcher.start()
    target = Target(ProviderSpec(provider.pk, "one", "https://one.example"), "m")
    (decision,) = keeper.admit([target], caller)
    keeper.record(decision, caller, failure("500"))
    await asyncio.to_thread(begun.wait, 5)
    stopping = asyncio.create_task(watcher.stop())
    await asyncio.sleep(0)
    go_on.set()
    await stopping
    stored = await sync_to_async(ProviderHealth.objects.get)()
    assert stored.failures == 1


async def test_what_the_database_refuses_does_not_hold_up_what_comes_after_it() -> None:
    provider = await sync_to_async(a_provider)()
    keeper, thread, caller = HealthKeeper(lambda: NOW), DatabaseThread("test"), Caller()
    for name in ("half an emoji \ud83d", "m"):
        target = Target(ProviderSpec(provider.pk, "one", "https://one.example"), name)
        (decision,) = keeper.admit([target], caller)
        keeper.record(decision, caller, outcome_of(429, [], NOW))
        await keeper.exchange(thread, Versions())
    await thread.close()
    stored = await sync_to_async(lambda: list(ProviderHealth.objects.values_list("model")))()
    assert stored == [("m",)]
    assert not keeper.table.has_changes


async def test_news_are_written_at_once_and_read_before_a_client_tries_again() -> None:
    provider, other = await sync_to_async(a_provider)(), 0
    targets = [
        Target(ProviderSpec(id, "one", "https://one.example"), "m") for id in (provider.pk, other)
    ]
    seeing, hearing = HealthKeeper(lambda: NOW), HealthKeeper(lambda: NOW)
    # Whoever has news does not wait for its turn; whoever has none looks twice before a retry.
    watchers = [
        Watcher(seeing, KnowledgeKeeper(), poll_seconds=NEVER),
        Watcher(hearing, KnowledgeKeeper()),
    ]
    assert POLL_SECONDS <= RETRY / 2
    for watcher in watchers:
        await watcher.start()
    try:
        died, limited = Caller("a", "session"), Caller("b", "another session")
        seeing.avoid(targets[0], died)
        await until(lambda: hearing.admit(targets, died)[0].avoided, "the death is known")
        (decision, _) = seeing.admit(targets, limited)
        limit = outcome_of(429, [(b"retry-after", b"60")], NOW)
        seeing.record(decision, limited, limit)
        await until(lambda: not hearing.admit(targets, limited)[0].allowed, "the limit is known")
    finally:
        for watcher in watchers:
            await watcher.stop()


async def test_a_session_that_the_database_refuses_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(news: object, now: float) -> None:
        raise DataError("value out of range")

    monkeypatch.setattr("providers.health_keeper.write_avoided", refuse)
    provider = await sync_to_async(a_provider)()
    keeper, thread, caller = HealthKeeper(lambda: NOW), DatabaseThread("test"), Caller("", "s")
    target = Target(ProviderSpec(provider.pk, "one", "https://one.example"), "m")
    keeper.avoid(target, caller)
    (decision,) = keeper.admit([target], caller)
    keeper.record(decision, caller, outcome_of(429, [], NOW))
    await keeper.exchange(thread, Versions())
    await thread.close()
    assert await sync_to_async(ProviderHealth.objects.count)() == 1
    assert keeper.table.avoidance.unshared() == []


async def test_old_rows_are_deleted_also_after_the_clock_was_put_back() -> None:
    provider = await sync_to_async(a_provider)()
    now, thread = NOW + 1e6, DatabaseThread("test")
    keeper = HealthKeeper(lambda: now)
    await keeper.exchange(thread, Versions())

    @sync_to_async
    def left_over() -> None:
        old = {"last_failure": NOW - 1e6, "credential": "a"}
        ProviderHealth.objects.create(provider=provider, **old)

    await left_over()
    now = NOW
    await keeper.exchange(thread, Versions())
    await thread.close()
    assert await sync_to_async(ProviderHealth.objects.count)() == 0
