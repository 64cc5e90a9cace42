"""One worker's share of the probes: what is wanted, what is granted, what is under way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from providers.health.arithmetic import (
    LEASE_MARGIN,
    PROBE_SECONDS,
    closed_until,
    probe_due,
    probe_scheduled,
)
from providers.health.rows import HealthKey, HealthRow
from providers.routing import Settings

MAX_WANTED = 1024
"""Keys with a wish for a probe; the oldest go first."""


class Probes:
    """The leases of one worker.

    A lease is claimed in the database beforehand, and only for keys that some call was turned
    away from: an idle worker leaves the probes to the ones with calls.
    """

    def __init__(self) -> None:
        self._wanted: dict[HealthKey, None] = {}
        self._granted: dict[HealthKey, float] = {}
        self._under_way: dict[HealthKey, float] = {}

    def begin(self, closed: Sequence[HealthRow], settings: Settings, now: float) -> bool:
        """Use the leases of all the rows that close a target, or none of them."""
        if not self._granted or not all(self._is_ready(row, settings, now) for row in closed):
            self._want(closed)
            return False
        for row in closed:
            self._wanted.pop(row.key, None)
            self._granted.pop(row.key, None)
            self._under_way[row.key] = now
        return True

    def _is_ready(self, row: HealthRow, settings: Settings, now: float) -> bool:
        lease_until = self._granted.get(row.key)
        return (
            lease_until is not None
            and now < lease_until - LEASE_MARGIN
            and probe_scheduled(row, settings, now)
        )

    def _want(self, closed: Sequence[HealthRow]) -> None:
        for row in closed:
            self._wanted[row.key] = None
        while len(self._wanted) > MAX_WANTED:
            del self._wanted[next(iter(self._wanted))]

    def end(self, keys: Iterable[HealthKey]) -> None:
        for key in keys:
            self._under_way.pop(key, None)

    def grant(self, key: HealthKey, lease_until: float) -> None:
        """Ignored while a probe of `key` is under way."""
        if key not in self._under_way:
            self._granted[key] = lease_until

    def due(
        self, row_of: Callable[[HealthKey], HealthRow | None], settings: Settings, now: float
    ) -> list[HealthKey]:
        """Wanted keys that are due and that nobody holds the lease of."""
        self._granted = {key: until for key, until in self._granted.items() if now < until}
        self._under_way = {
            key: begun for key, begun in self._under_way.items() if now < begun + PROBE_SECONDS
        }
        due = []
        for key in list(self._wanted):
            row = row_of(key)
            if row is None or closed_until(row, settings, now) is None:
                del self._wanted[key]
            elif key not in self._granted and probe_due(row, settings, now):
                due.append(key)
        return due
