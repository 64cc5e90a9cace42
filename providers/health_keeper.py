"""The providers' health in one worker: answers from memory, shares behind the calls' back."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence

from django.db import DataError

from providers.avoidance_store import forget_expired, read_avoided, write_avoided
from providers.database import DatabaseThread
from providers.events import emit
from providers.health import (
    AVOID_SECONDS,
    Caller,
    Decision,
    HealthTable,
    Outcome,
    ProviderState,
)
from providers.health_store import claim_leases, forget_spent, read_rows, write_events
from providers.loading import Versions
from providers.routing import Settings, Target

FORGET_SECONDS = 3600.0

_REFUSED = (DataError, ValueError, OverflowError)
"""What is refused like this would be refused again and again, and hold up everything else."""


class HealthKeeper:
    """Owns the health table of a worker and keeps it in step with the database.

    `admit`, `record`, `release` and `avoid` are dictionary work. `exchange` is
    called by the watcher, with the settings in force.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.table = HealthTable(f"{os.getpid()}-{secrets.token_hex(4)}")
        self.settings = Settings()
        self.changed = asyncio.Event()
        self._clock = clock
        self._seen = Versions(*[-1] * len(Versions._fields))
        self._forget_at = 0.0

    def admit(
        self, targets: Sequence[Target], caller: Caller, *, may_probe: bool = True
    ) -> list[Decision]:
        """May I? One decision a target, in their order."""
        now = self._clock()
        return self.table.admit(targets, caller, self.settings, now, may_probe=may_probe)

    def now(self) -> float:
        return self._clock()

    def record(self, decision: Decision, caller: Caller, outcome: Outcome) -> None:
        """How it went. In force for this worker's next call at once."""
        now, target = self._clock(), decision.target
        before = self.table.closed_for(target, caller, self.settings, now)
        self.table.record(decision, caller, outcome, self.settings, now)
        if not self.table.has_changes:
            return
        self.changed.set()
        after = self.table.closed_for(target, caller, self.settings, now)
        if after is not None and (before is None or after > before):
            emit(
                "circuit_breaker.cooldown",
                level=logging.WARNING,
                provider=target.name,
                reason=outcome.reason,
                seconds=round(after - now),
            )
        elif before is not None and after is None:
            emit("circuit_breaker.reset", provider=target.name)

    def release(self, decisions: Sequence[Decision]) -> None:
        """Those that came to nothing give back their probes."""
        self.table.release(*decisions)
        if self.table.has_changes:
            self.changed.set()

    def avoid(self, target: Target, caller: Caller) -> None:
        """A committed stream died: this conversation's own retry goes to somebody else."""
        self.table.avoid(target.provider.id, caller, self._clock() + AVOID_SECONDS)
        self.changed.set()

    def state_of(self, provider_id: int) -> ProviderState:
        return self.table.state_of(provider_id, self.settings, self._clock())

    async def exchange(self, thread: DatabaseThread, versions: Versions) -> None:
        """Write what this worker has seen, read what the others have, claim due probes."""
        self.changed.clear()
        # Its readers have half a second.
        await self._exchange_avoidance(thread, versions.avoidance)
        await self._write(thread)
        if versions.health != self._seen.health:
            mark = self.table.mark
            rows = await thread.run(read_rows)
            self.table.load(rows, self.settings, self._clock(), mark)
            self._seen = self._seen._replace(health=versions.health)
        due = self.table.probes_due(self.settings, self._clock())
        if due:
            leases = await thread.run(
                claim_leases, due, self.table.worker, self.settings, self._clock()
            )
            for key, until in leases.items():
                self.table.grant_probe(key, until)
        now = self._clock()
        # Or else the clock has been put back.
        if not now < self._forget_at <= now + FORGET_SECONDS:
            self._forget_at = now + FORGET_SECONDS
            await thread.run(forget_spent, self.settings, now)
            await thread.run(forget_expired, now)

    async def _exchange_avoidance(self, thread: DatabaseThread, version: int) -> None:
        avoidance = self.table.avoidance
        if news := avoidance.unshared():
            try:
                await thread.run(write_avoided, news, self._clock())
            except _REFUSED as error:
                _emit_loss(len(news), error)
            avoidance.shared(news)
        if version != self._seen.avoidance:
            avoidance.load(await thread.run(read_avoided))
            self._seen = self._seen._replace(avoidance=version)

    async def _write(self, thread: DatabaseThread) -> None:
        events = self.table.drain_changes()
        if not events:
            return
        try:
            rows = await thread.run(write_events, events, self.settings, self._clock())
        except _REFUSED as error:
            rows = []
            _emit_loss(len(events), error)
        except BaseException:
            self.table.restore_changes()
            raise
        self.table.confirm(rows, self.settings, self._clock())


def _emit_loss(events: int, error: Exception) -> None:
    message = f"{type(error).__name__}: {error}"
    emit("health.lost", level=logging.ERROR, events=events, message=message)
