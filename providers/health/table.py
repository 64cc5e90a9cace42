"""The health table of one worker: *may I* and *how it went*, answered from memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from providers.health.avoidance import Avoidance
from providers.health.decisions import Caller, Decision, events_of
from providers.health.ledger import Ledger
from providers.health.outcomes import Outcome, OutcomeKind
from providers.health.probes import Probes
from providers.health.rows import (
    WIDE,
    EventKind,
    HealthEvent,
    HealthKey,
    HealthRow,
    keys_of,
    narrow_parts,
)
from providers.health.state import ProviderState, describe
from providers.routing import Settings, Target

SUCCESS_EVERY = 60.0
"""Seconds between two notes that a healthy provider still answers: not every call is written."""


class HealthTable:
    """The circuit breakers of all providers, in one worker.

    Not for threads: all calls come from one event loop. `worker` is a name that no other worker
    has; it owns the leases of this worker's probes.
    """

    def __init__(self, worker: str = "worker") -> None:
        self.worker = worker
        self.avoidance = Avoidance()
        self._ledger = Ledger()
        self._probes = Probes()

    # What the relay asks and tells

    def admit(
        self,
        targets: Sequence[Target],
        caller: Caller,
        settings: Settings,
        now: float,
        *,
        may_probe: bool = True,
    ) -> list[Decision]:
        """Which targets may be asked: once a call, before the first attempt, in their order.

        At least one is allowed, if there is any. Each decision is to be recorded if it was acted
        upon, and released in the end in any case. `may_probe` is False for calls that are no
        test of anything, like count_tokens.
        """
        avoided = self.avoidance.of(caller.session, caller.agent, now)
        active = len(targets)
        if avoided:
            active = sum(target.provider.id not in avoided for target in targets)
            if not active:  # nobody to hand over to
                avoided, active = {}, len(targets)
        lone = active == 1
        decisions = [Decision(target, now, lone) for target in targets]
        cooling = self._ledger.cooling
        if cooling or avoided:
            for decision in decisions:
                provider_id = decision.target.provider.id
                if provider_id in cooling or provider_id in avoided:
                    self._judge(decision, caller, avoided, settings)
            self._arrange(decisions, settings, may_probe)
        return decisions

    def record(
        self, decision: Decision, caller: Caller, outcome: Outcome, settings: Settings, now: float
    ) -> None:
        """How the attempt of `decision` went. It counts once, whatever comes after it.

        A success is best recorded when the reply is committed: a probe then reopens the provider
        at once, and a stream that dies later is a matter for `avoid`.
        """
        if decision.settled:
            return
        decision.settled = True
        if outcome.kind is OutcomeKind.SUCCESS:
            self._succeed(decision, caller, settings, now)
        elif decision.probe:
            failed = outcome.kind not in (OutcomeKind.IGNORED, OutcomeKind.CANCELLED)
            kind = EventKind.PROBE_FAILED if failed else EventKind.PROBE_RETURNED
            self._end_probe(decision, kind, outcome, settings, now)
        else:
            for event in events_of(decision, caller, outcome, now):
                self._ledger.note(event, settings, now)

    def release(self, *decisions: Decision) -> None:
        """Give back the probes of decisions that were never recorded; else nothing."""
        for decision in decisions:
            for key in self._take_leases(decision) if decision.leases else ():
                event = HealthEvent(key, EventKind.PROBE_RETURNED, decision.at, owner=self.worker)
                self._ledger.note(event, Settings(), None)

    def avoid(self, provider_id: int, caller: Caller, until: float) -> None:
        """Keep this session and agent away from a provider, at most `AVOID_SECONDS` from now."""
        self.avoidance.add(provider_id, caller.session, caller.agent, until)

    # What status pages and operators use

    def closed_for(
        self, target: Target, caller: Caller, settings: Settings, now: float
    ) -> float | None:
        """When the cooldown that closes `target` to this caller ends; None without one."""
        decision = Decision(target, now)
        self._judge(decision, caller, {}, settings)
        return decision.until

    def state_of(self, provider_id: int, settings: Settings, now: float) -> ProviderState:
        """The health of a provider, with what is closed for single credentials and models."""
        row = self._ledger.wide.get(provider_id) or HealthRow(HealthKey(provider_id))
        narrow = self._ledger.narrow.get(provider_id, {}).values()
        limits = (describe(r, settings, now) for r in narrow)
        state = describe(row, settings, now)
        return replace(state, limits=tuple(limit for limit in limits if limit.until is not None))

    def reset(self, provider_id: int, settings: Settings, now: float) -> None:
        """Forget failures, cooldowns and limits of a provider, for everyone."""
        keys = {row.key for row in self._ledger.of_provider(provider_id)}
        for key in keys | {HealthKey(provider_id)}:
            self._ledger.note(HealthEvent(key, EventKind.RESET, now), settings, now)
        self.avoidance.forget(provider_id)

    def cool_down(
        self, provider_id: int, until: float, reason: str, settings: Settings, now: float
    ) -> None:
        """Close a provider for everyone, until `until` or a reset; it is not probed."""
        key = HealthKey(provider_id)
        event = HealthEvent(key, EventKind.COOL_DOWN, now, until=until, reason=reason)
        self._ledger.note(event, settings, now)

    # What the writer and the watcher use

    @property
    def has_changes(self) -> bool:
        """Whether `drain_changes` would return anything."""
        return self._ledger.has_changes

    def drain_changes(self) -> list[HealthEvent]:
        """The events since the last drain, in order, to be applied to the shared rows.

        Follow it by `confirm` or `restore` before draining again.
        """
        return self._ledger.drain()

    def confirm(self, rows: Iterable[HealthRow], settings: Settings, now: float) -> None:
        """What was drained has been written; `rows` are the rows as they are now shared."""
        self._ledger.confirm(rows, settings, now)

    def restore_changes(self) -> None:
        """What was drained could not be written: the next drain returns it again."""
        self._ledger.restore()

    @property
    def mark(self) -> int:
        """To be read before the shared rows are, and passed to `load` with them."""
        return self._ledger.mark

    def load(
        self,
        rows: Iterable[HealthRow],
        settings: Settings,
        now: float,
        mark: int | None = None,
    ) -> None:
        """Take over all the shared rows; this worker's events that are not in them yet stay.

        With `mark`, rows that were confirmed since then win over older ones read before it.
        """
        self._ledger.load(rows, settings, now, mark)

    def probes_due(self, settings: Settings, now: float) -> list[HealthKey]:
        """Keys that a call was turned away from and that are due for a probe: to be claimed."""
        return self._probes.due(self._ledger.get, settings, now)

    def grant_probe(self, key: HealthKey, lease_until: float) -> None:
        """The lease of `key` has been claimed for this worker: one call may use it."""
        self._probes.grant(key, lease_until)

    # Admission

    def _judge(
        self, decision: Decision, caller: Caller, avoided: Mapping[int, float], settings: Settings
    ) -> None:
        """Close the decision if a cooldown or its conversation does."""
        target = decision.target
        provider_id = target.provider.id
        cooling = self._ledger.cooling.get(provider_id)
        if cooling:
            wide = cooling.get(WIDE)
            if wide is not None:
                decision.consider(wide, settings)
            if wide is None or len(cooling) > 1:
                for part in narrow_parts(target, caller.credential):
                    narrow = cooling.get(part)
                    if narrow is not None:
                        decision.consider(narrow, settings)
        if provider_id in avoided:
            decision.avoid(avoided[provider_id])

    def _arrange(self, decisions: list[Decision], settings: Settings, may_probe: bool) -> None:
        """Open the safety valve if nothing is open, and probe what would be asked before that."""
        skipped = []
        for decision in decisions:
            if decision.allowed:
                break
            skipped.append(decision)
        else:
            if skipped:
                soonest = min(skipped, key=lambda decision: decision.until or 0.0)
                soonest.allowed = soonest.safety_valve = True
                skipped.remove(soonest)
        if not may_probe or not skipped:
            return
        candidates = [decision for decision in skipped if not decision.avoided]
        if not self._probes.has_leases:
            self._probes.want([row for d in candidates for row in d.closed], skipped[0].at)
            return
        for decision in candidates:
            if self._probes.begin(decision.closed, settings, decision.at):
                self._probe(decision, settings)

    def _probe(self, decision: Decision, settings: Settings) -> None:
        decision.allowed = decision.probe = True
        decision.leases = tuple(row.key for row in decision.closed)
        for key in decision.leases:
            event = HealthEvent(key, EventKind.PROBE_STARTED, decision.at, owner=self.worker)
            self._ledger.note(event, settings, decision.at)

    # Recording

    def _succeed(self, decision: Decision, caller: Caller, settings: Settings, now: float) -> None:
        """A success proves the provider, the credential and the model that it used, no others."""
        if not decision.leases and self._is_known_to_be_well(decision.target.provider.id, now):
            return
        leases = self._take_leases(decision)
        for key in keys_of(decision.target, caller.credential):
            if key in leases or self._is_news(key, now):
                owner = self.worker if key in leases else ""
                event = HealthEvent(key, EventKind.SUCCESS, now, started=decision.at, owner=owner)
                self._ledger.note(event, settings, now)

    def _is_known_to_be_well(self, provider_id: int, now: float) -> bool:
        """Whether one more success there would change nothing, whoever has asked."""
        row = self._ledger.wide.get(provider_id)
        return (
            row is not None
            and not row.failures
            and row.until is None
            and provider_id not in self._ledger.narrow
            and _is_recent(row, now)
        )

    def _is_news(self, key: HealthKey, now: float) -> bool:
        row = self._ledger.get(key)
        if row is not None and (row.failures or row.until is not None):
            return True
        return key.provider_wide and (row is None or not _is_recent(row, now))

    def _end_probe(
        self, decision: Decision, kind: EventKind, outcome: Outcome, settings: Settings, now: float
    ) -> None:
        for key in self._take_leases(decision):
            event = HealthEvent(
                key, kind, now, reason=outcome.reason, error=outcome.error, owner=self.worker
            )
            self._ledger.note(event, settings, now)

    def _take_leases(self, decision: Decision) -> tuple[HealthKey, ...]:
        leases, decision.leases = decision.leases, ()
        self._probes.end(leases)
        return leases


def _is_recent(row: HealthRow, now: float) -> bool:
    """Whether the last success is recent enough for the next one not to be written."""
    return row.last_success is not None and 0 <= now - row.last_success < SUCCESS_EVERY
