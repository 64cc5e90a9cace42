"""A database, a writer and a watcher as provider health expects them, in a few lines."""

from __future__ import annotations

from providers.health import HealthEvent, HealthKey, HealthRow, HealthTable, apply, claim, probe_due
from providers.routing import Settings


class SharedRows:
    """The rows that all workers share. Each method is one transaction."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.rows: dict[HealthKey, HealthRow] = {}

    def write(self, events: list[HealthEvent], now: float) -> list[HealthRow]:
        for event in events:
            self.rows[event.key] = apply(self.rows.get(event.key), event, self.settings, now)
        return [self.rows[key] for key in {event.key for event in events}]

    def read(self) -> list[HealthRow]:
        return list(self.rows.values())

    def claim(self, key: HealthKey, owner: str, now: float) -> float | None:
        row = self.rows.get(key)
        if row is None or not probe_due(row, self.settings, now):
            return None
        self.rows[key] = claim(row, owner, now)
        return self.rows[key].probe_until


def flush(table: HealthTable, shared: SharedRows, now: float) -> None:
    """One turn of the writer."""
    table.confirm(shared.write(table.drain_changes(), now), shared.settings, now)


def watch(table: HealthTable, shared: SharedRows, now: float) -> None:
    """One turn of the watcher."""
    mark = table.mark
    table.load(shared.read(), shared.settings, now, mark)
    for key in table.probes_due(shared.settings, now):
        lease_until = shared.claim(key, table.worker, now)
        if lease_until is not None:
            table.grant_probe(key, lease_until)
