"""Health in the words of the status pages."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from providers.health.arithmetic import closed_until, lease_taken
from providers.health.rows import HealthKey, HealthRow
from providers.routing import Settings


class Condition(enum.StrEnum):
    """What a row amounts to."""

    HEALTHY = "healthy"
    FAILING = "failing"
    """Failures in a row, too few to close it."""
    COOLING_DOWN = "cooling down"
    PROBING = "probing"
    """Cooling down, and a request is let through to see whether it is back."""


@dataclass(frozen=True, slots=True)
class ProviderState:
    """The health of a provider, or of one credential or model there, at one moment.

    `limits` are the cooldowns in force for single credentials and models (of a provider only).
    """

    key: HealthKey
    condition: Condition
    until: float | None
    reason: str
    failures: int
    last_failure: float | None
    last_success: float | None
    last_error: str
    limits: tuple[ProviderState, ...] = ()


def describe(row: HealthRow, settings: Settings, now: float) -> ProviderState:
    """The state that a row stands for at `now`."""
    until = closed_until(row, settings, now)
    if until is not None:
        condition = Condition.PROBING if lease_taken(row, now) else Condition.COOLING_DOWN
    else:
        condition = Condition.FAILING if row.failures > 0 else Condition.HEALTHY
    return ProviderState(
        key=row.key,
        condition=condition,
        until=until,
        reason="" if until is None else row.reason,
        failures=row.failures,
        last_failure=row.last_failure,
        last_success=row.last_success,
        last_error=row.last_error,
    )
