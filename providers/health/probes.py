"""One worker's share of the probes: what is wanted, what is granted, what is under way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from providers.health.arithmetic import (
    CLOCK_SKEW,
    LEASE_MARGIN,
    LEASE_SECONDS,
    PROBE_SECONDS,
    closed_until,
    probe_due,
    probe_scheduled,
)
from providers.health.rows import HealthKey, HealthRow
from providers.routing import Settings

MAX_WANTED = 1024
"""Keys with a wish for a probe; the oldest go first."""

WISH_SECONDS = 3600.0
"""A worker that no call has been turned away from for so long asks for no more leases."""

YIELD_SECONDS = 2.0
"""How long a lease that has run out is left to workers whose calls are more recent."""


class Probes:
    """The leases of one worker.

    A lease is claimed in the database beforehand, and only for keys that some call was turned
    away from: an idle worker leaves the probes to the ones with calls.
    """

    def __init__(self) -> None:
        self._wanted: dict[HealthKey, float] = {}
        self._granted: dict[HealthKey, float] = {}
        self._under_way: dict[HealthKey, float] = {}

    def begin(self, closed: Sequence[HealthRow], settings: Settings, now: float) -> bool:
        """Use the leases of all the rows that close a target, or none of them."""
        if not all(self._is_ready(row, settings, now) for row in closed):
            self.want(closed, now)
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

    @property
    def has_leases(self) -> bool:
        """Whether `begin` may come to anything."""
        return bool(self._granted)

    def want(self, closed: Sequence[HealthRow], now: float) -> None:
        """A call was turned away by these rows."""
        for row in closed:
            self._wanted[row.key] = now
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
        for key, wished in list(self._wanted.items()):
            row = row_of(key)
            over = not -CLOCK_SKEW < now - wished < WISH_SECONDS
            if over or row is None or closed_until(row, settings, now) is None:
                del self._wanted[key]
            elif (
                key not in self._granted
                and probe_due(row, settings, now)
                and not _is_left_to_others(row, wished, now)
            ):
                due.append(key)
        return due


def _is_left_to_others(row: HealthRow, wished: float, now: float) -> bool:
    """Whether to let others claim a lease that has just run out, for want of calls here."""
    if now - wished <= LEASE_SECONDS or row.probe_until is None:
        return False
    return row.probe_until <= now < row.probe_until + YIELD_SECONDS
