"""The decision on one target in one call, and what the outcome of its attempt changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from providers.health.ledger import Cooldown
from providers.health.outcomes import Outcome, OutcomeKind
from providers.health.rows import EventKind, HealthEvent, HealthKey, HealthRow, key_of
from providers.routing import Settings, Target

STREAM_DIED = "its stream broke off in this session"


class Caller(NamedTuple):
    """Who asks. `credential` is a short hash of the client's own credentials, "" without any."""

    credential: str = ""
    session: str = ""
    agent: str = ""


class Decision:
    """Whether one target may be asked in one call; made, and settled, by the table alone.

    `reason` says why it is skipped, probed or asked all the same, and `until` when its cooldown
    ends. `avoided`: closed to this conversation only; worth a try when nothing else answered.
    """

    # Most decisions of a call keep the defaults: they are the class's, so that making one is cheap.
    allowed: bool = True
    probe: bool = False
    safety_valve: bool = False
    avoided: bool = False
    reason: str = ""
    until: float | None = None
    settled: bool = False
    closed: tuple[HealthRow, ...] = ()
    leases: tuple[HealthKey, ...] = ()

    def __init__(self, target: Target, at: float, lone: bool = False) -> None:
        self.target = target
        self.at = at
        self.lone = lone

    def consider(self, cooldown: Cooldown, settings: Settings) -> None:
        """Close it if the cooldown is in force; the one that ends last says why.

        Failures in a row never close the only provider there is.
        """
        if cooldown.settings is not settings:
            cooldown.work_out(settings)
        until = cooldown.until
        if not cooldown.since <= self.at < until or (self.lone and cooldown.of_failures):
            return
        self.allowed = False
        if self.until is None:
            self.closed, self.until, self.reason = cooldown.rows, until, cooldown.reason
            return
        self.closed += cooldown.rows
        if self.until < until:
            self.until, self.reason = until, cooldown.reason

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
            key_of(target, caller.credential, outcome.scope),
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
            reply=outcome.reply,
        )
