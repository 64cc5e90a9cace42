"""The rows that one worker holds in memory, and the events that are still to be written."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from itertools import islice

from providers.health.arithmetic import (
    NEVER,
    apply,
    closed_between,
    is_spent,
    last_news,
    plausible,
    transition,
)
from providers.health.rows import Cause, HealthEvent, HealthKey, HealthRow
from providers.routing import Settings

MAX_NARROW = 2048
"""Rows of single credentials and models that are kept for one provider; the oldest go first."""

MAX_PENDING = 10_000
"""Events kept for the writer while the database is away; the oldest go first."""


class Cooldown:
    """The cooldown of a row, perhaps over by now: worked out once, looked at in every call."""

    __slots__ = ("of_failures", "reason", "rows", "settings", "since", "until")

    def __init__(self, row: HealthRow) -> None:
        self.rows = (row,)
        self.reason = row.reason
        self.of_failures = row.cause is Cause.FAILURES
        self.settings: Settings | None = None
        self.since, self.until = NEVER

    def work_out(self, settings: Settings) -> None:
        """Settle beginning and end under these settings."""
        self.since, self.until = closed_between(self.rows[0], settings)
        self.settings = settings


class Ledger:
    """Rows as this worker sees them: what was loaded, and its own events on top of that.

    Rows are kept by provider: `wide` has its own, `narrow` those of single credentials and
    models, `cooling` the cooldowns of both by credential and model. All three are for reading.

    Events go through three states: recorded, drained (handed to the writer), confirmed. Until
    they are confirmed they are applied again to everything that is loaded.
    """

    def __init__(self) -> None:
        self.wide: dict[int, HealthRow] = {}
        self.narrow: dict[int, dict[HealthKey, HealthRow]] = {}
        self.cooling: dict[int, dict[tuple[str, str], Cooldown]] = {}
        self._pending: deque[HealthEvent] = deque()
        self._drained = 0
        self._confirmations = 0
        self._confirmed: dict[HealthKey, tuple[int, HealthRow]] = {}

    def get(self, key: HealthKey) -> HealthRow | None:
        if key.provider_wide:
            return self.wide.get(key.provider_id)
        return self.narrow.get(key.provider_id, {}).get(key)

    def of_provider(self, provider_id: int) -> Iterator[HealthRow]:
        """The provider's own row first."""
        if provider_id in self.wide:
            yield self.wide[provider_id]
        yield from self.narrow.get(provider_id, {}).values()

    def note(self, event: HealthEvent, settings: Settings, now: float | None) -> None:
        """Apply an event at once and keep it for the writer. `now` None: its stamps are sound."""
        row = self.get(event.key)
        if now is None:
            row = transition(row or HealthRow(event.key), event, settings)
        else:
            row = apply(row, event, settings, now)
        self._store(row)
        self._pending.append(event)
        if len(self._pending) > MAX_PENDING:
            self._pending.popleft()
            self._drained = max(0, self._drained - 1)

    @property
    def has_changes(self) -> bool:
        return len(self._pending) > self._drained

    def drain(self) -> list[HealthEvent]:
        events = list(islice(self._pending, self._drained, None))
        self._drained = len(self._pending)
        return events

    def restore(self) -> None:
        self._drained = 0

    @property
    def mark(self) -> int:
        return self._confirmations

    def confirm(self, rows: Iterable[HealthRow], settings: Settings, now: float) -> None:
        for _ in range(self._drained):
            self._pending.popleft()
        self._drained = 0
        self._confirmations += 1
        pending = self._pending_by_key()
        for row in rows:
            self._confirmed[row.key] = (self._confirmations, row)
            self._show(row, row.key, pending, settings, now)

    def load(
        self, rows: Iterable[HealthRow], settings: Settings, now: float, mark: int | None
    ) -> None:
        shared = {row.key: row for row in rows}
        self._confirmed = {
            key: (serial, row)
            for key, (serial, row) in self._confirmed.items()
            if mark is not None and serial > mark
        }
        for key, (_, row) in self._confirmed.items():
            if key not in shared or shared[key].version < row.version:
                shared[key] = row
        self.wide.clear()
        self.narrow.clear()
        self.cooling.clear()
        pending = self._pending_by_key()
        for row in sorted(shared.values(), key=last_news):
            if row.key in pending or not is_spent(row, settings, now):
                self._show(row, row.key, pending, settings, now)
        for key in pending.keys() - shared.keys():
            self._show(None, key, pending, settings, now)

    def _pending_by_key(self) -> dict[HealthKey, list[HealthEvent]]:
        events: defaultdict[HealthKey, list[HealthEvent]] = defaultdict(list)
        for event in self._pending:
            events[event.key].append(event)
        return dict(events)

    def _show(
        self,
        row: HealthRow | None,
        key: HealthKey,
        pending: dict[HealthKey, list[HealthEvent]],
        settings: Settings,
        now: float,
    ) -> None:
        """Store a row of the database with this worker's own unwritten events on top."""
        row = HealthRow(key) if row is None else plausible(row, now)
        for event in pending.get(key, ()):
            row = apply(row, event, settings, now)
        self._store(row)

    def _store(self, row: HealthRow) -> None:
        key = row.key
        self._index(row)
        if key.provider_wide:
            self.wide[key.provider_id] = row
            return
        rows = self.narrow.setdefault(key.provider_id, {})
        rows.pop(key, None)
        rows[key] = row
        if len(rows) > MAX_NARROW:
            oldest = next(iter(rows))
            self._index(HealthRow(oldest))
            self._confirmed.pop(oldest, None)
            del rows[oldest]

    def _index(self, row: HealthRow) -> None:
        """Keep `cooling` in step with a row that is stored or dropped."""
        provider_id, credential, model = row.key
        rows = self.cooling.get(provider_id)
        if row.until is not None:
            self.cooling.setdefault(provider_id, {})[credential, model] = Cooldown(row)
        elif rows and rows.pop((credential, model), None) and not rows:
            del self.cooling[provider_id]
