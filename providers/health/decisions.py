"""The decision on one target in one call, and what the outcome of its attempt changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from providers.health.arithmetic import closed_until
from providers.health.outcomes import Outcome, OutcomeKind
from providers.health.rows import EventKind, HealthEvent, HealthKey, HealthRow, Scope, key_of
from providers.routing import Settings, Target

STREAM_DIED = "its stream broke off in this session"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `credential` is a short hash of the client's own credentials, "" without any."""

    credential: str = ""
    session: str = ""
    agent: str = ""


@dataclass(slots=True, eq=False)
class Decision:
    """Whether one target may be asked in one call; made, and settled, by the table alone.

    `reason` says why it is skipped, probed or asked all the same, and `until` when its cooldown
    ends. `avoided`: closed to this conversation only; worth a try when nothing else answered.
    """

    target: Target
    allowed: bool = True
    probe: bool = False
    safety_valve: bool = False
    avoided: bool = False
    reason: str = ""
    until: float | None = None
    at: float = 0.0
    lone: bool = False
    settled: bool = False
    closed: tuple[HealthRow, ...] = field(default=(), repr=False)
    leases: tuple[HealthKey, ...] = field(default=(), repr=False)

    def close(self, rows: tuple[HealthRow, ...], settings: Settings, now: float) -> None:
        """Closed until the last of the cooldowns ends, for its reason."""
        ends = ((closed_until(row, settings, now) or now, row) for row in rows)
        self.until, row = max(ends, key=lambda end: end[0])
        self.allowed, self.reason, self.closed = False, row.reason, rows

    def avoid(self, until: float) -> None:
        """Closed to this conversation, if nothing closes it for longer."""
        self.avoided, self.allowed = True, False
        if self.until is None or self.until < until:
            self.until, self.reason = until, STREAM_DIED


def events_of(
    decision: Decision, caller: Caller, outcome: Outcome, now: float
) -> Iterator[HealthEvent]:
    """What an attempt that was no success and no probe changes."""
    target = decision.target
    limited = outcome.kind is OutcomeKind.LIMIT
    overloaded = limited and (outcome.status or 0) >= 500
    if overloaded or outcome.kind in (OutcomeKind.FAILURE, OutcomeKind.CLIENT_REJECTED):
        # An overloaded provider fails like any other, even if it asks for a second of patience.
        reason = str(outcome.status) if limited else outcome.reason
        yield HealthEvent(
            key_of(target, caller.credential, Scope.PROVIDER if overloaded else outcome.scope),
            EventKind.FAILURE,
            now,
            reason=reason,
            error=outcome.error,
            lone=decision.lone,
        )
    for limit in outcome.limits if limited else ():
        yield HealthEvent(
            key_of(target, caller.credential, limit.scope),
            EventKind.LIMIT,
            now,
            until=limit.until,
            reason=limit.reason,
            error=outcome.error,
        )
