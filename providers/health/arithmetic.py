"""The circuit breaker's arithmetic: pure functions from rows, events and the time.

The table in memory and the writer of the database both use them, so that both
come to the same row from the same events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from providers.health.rows import Cause, EventKind, HealthEvent, HealthRow
from providers.routing import Settings

Changes = dict[str, Any]
"""Fields of a row and their new values."""

TIERS: tuple[tuple[int, float], ...] = ((10, 300.0), (5, 60.0), (3, 30.0))
"""(failures in a row, seconds of cooldown), highest first."""

MAX_NAMED = 8 * 86400.0
"""The longest time that a provider, or an operator, may name: a week and a day."""

LEASE_SECONDS = 30.0
"""How long a worker may sit on a probe that it has claimed and not begun."""

LEASE_MARGIN = 5.0
"""A probe begins no later than this before its claim runs out: the time to tell the others."""

PROBE_SECONDS = 900.0
"""How long a probe that has begun keeps others out, if its worker dies without a word."""

CLOCK_SKEW = 60.0
"""Stamps further ahead than this come from a clock that jumped, and are dropped."""

FORGET_AFTER = 86400.0
"""A row of one credential or model is forgotten after this time without news."""


def tier_cooldown(failures: int, settings: Settings) -> float:
    """Seconds of cooldown after so many failures in a row; 0 for none."""
    tier = next((seconds for least, seconds in TIERS if failures >= least), 0.0)
    return max(0.0, min(tier, settings.max_cooldown))


def closed_until(row: HealthRow, settings: Settings, now: float) -> float | None:
    """When the cooldown in force at `now` ends; None without one."""
    since, until = closed_between(row, settings)
    return until if since <= now < until else None


NEVER = (0.0, 0.0)


def closed_between(row: HealthRow, settings: Settings) -> tuple[float, float]:
    """Beginning and end of the cooldown of a row, `NEVER` without one.

    A cooldown never outlasts what its cause permits, counted from its own beginning, whatever
    the row says; one that begins in the future is not in force.
    """
    if row.until is None or row.since is None or row.cause is None or settings.max_cooldown <= 0:
        return NEVER
    longest = settings.max_cooldown if row.cause is Cause.FAILURES else MAX_NAMED
    return row.since, min(row.since + longest, row.until)


def probe_scheduled(row: HealthRow, settings: Settings, now: float) -> bool:
    """Whether the cooldown has lasted long enough for the next probe, whoever has the lease.

    So cooldowns of an interval or less are sat out. An operator's are respected, and an
    interval of 0 switches probes off.
    """
    interval = settings.probe_interval
    if interval <= 0 or row.cause is Cause.OPERATOR or closed_until(row, settings, now) is None:
        return False
    begun = row.since if row.probe_at is None else row.probe_at
    return begun is not None and now >= begun + interval


def lease_taken(row: HealthRow, now: float) -> bool:
    """Whether some worker holds the lease. One that ends too far ahead is nobody's."""
    return row.probe_until is not None and now < row.probe_until <= now + PROBE_SECONDS


def probe_due(row: HealthRow, settings: Settings, now: float) -> bool:
    """Whether a worker may claim the lease of this row now."""
    return probe_scheduled(row, settings, now) and not lease_taken(row, now)


def claim(row: HealthRow, owner: str, now: float) -> HealthRow:
    """`row` with its lease claimed by `owner`; give `probe_until` to `HealthTable.grant_probe`.

    To be written only if the row still is as it was read (compare `version`).
    """
    until = now + LEASE_SECONDS
    return row._replace(probe_owner=owner, probe_until=until, version=row.version + 1)


def is_spent(row: HealthRow, settings: Settings, now: float) -> bool:
    """Whether nothing is lost by deleting the row: one credential's or model's, long quiet."""
    if row.key.provider_wide or closed_until(row, settings, now) is not None:
        return False
    return last_news(row) + FORGET_AFTER <= now


def last_news(row: HealthRow) -> float:
    """The latest stamp of a row, 0 without any."""
    return max(
        row.last_failure or 0.0, row.last_success or 0.0, row.proven_at or 0.0, row.since or 0.0
    )


def plausible(row: HealthRow, now: float) -> HealthRow:
    """`row` without stamps that lie in the future, and without a cooldown that begins there."""
    horizon = now + CLOCK_SKEW
    if max(last_news(row), row.probe_at or 0.0) <= horizon:
        return row
    changes: Changes = {
        name: None
        for name in ("last_failure", "last_success", "proven_at", "probe_at")
        if (getattr(row, name) or 0.0) > horizon
    }
    if row.since is not None and row.since > horizon:
        changes |= _OPEN
    return row._replace(**changes)


def apply(row: HealthRow | None, event: HealthEvent, settings: Settings, now: float) -> HealthRow:
    """The row after `event`. `now` is the time of whoever applies it, later than `event.at`."""
    row = HealthRow(event.key) if row is None else plausible(row, now)
    if event.at > now:
        event = event._replace(at=now, started=min(event.started, now))
    return transition(row, event, settings)


def transition(row: HealthRow, event: HealthEvent, settings: Settings) -> HealthRow:
    """`apply` for a row and an event whose stamps are known to be sound."""
    changes = _TRANSITIONS[event.kind](row, event, settings)
    return row._replace(**changes, version=row.version + 1)


_OPEN: Changes = {
    "cause": None,
    "reason": "",
    "since": None,
    "until": None,
    "probe_at": None,
    "reply": "",
}


def _later(stamp: float | None, at: float) -> float:
    return at if stamp is None else max(stamp, at)


def _error(row: HealthRow, event: HealthEvent) -> Changes:
    """Events may come late: the last error is the one of the last failure."""
    if row.last_failure is not None and event.at < row.last_failure:
        return {}
    return {"last_failure": event.at, "last_error": event.error or event.reason}


def _close(
    row: HealthRow, settings: Settings, closed: Changes, since: float, until: float
) -> Changes:
    """Closed until `until`, unless it already is for longer. The first probe waits an interval."""
    current = closed_until(row, settings, _later(row.since, since))
    if current is not None and current >= until:
        return {}
    changes = {"reply": ""} | closed | {"since": since, "until": until}
    return changes if current is not None else changes | {"probe_at": since}


def _on_failure(row: HealthRow, event: HealthEvent, settings: Settings) -> Changes:
    changes = _error(row, event)
    if event.at < max(row.last_success or 0.0, row.proven_at or 0.0):
        return changes
    failures = max(row.failures, 0) + 1
    changes["failures"] = failures
    cooldown = tier_cooldown(failures, settings)
    if event.lone or not cooldown:
        return changes
    since = _later(row.last_failure, event.at)
    reason = f"{failures} failures in a row ({event.reason})"
    closed = {"cause": Cause.FAILURES, "reason": reason}
    return changes | _close(row, settings, closed, since, since + cooldown)


def _on_limit(row: HealthRow, event: HealthEvent, settings: Settings) -> Changes:
    changes = _error(row, event)
    outdated = event.at < (row.proven_at or 0.0)
    if outdated or event.until is None or not event.at < event.until <= event.at + MAX_NAMED:
        return changes
    closed = {"cause": Cause.LIMIT, "reason": event.reason, "reply": event.reply}
    return changes | _close(row, settings, closed, event.at, event.until)


def _on_success(row: HealthRow, event: HealthEvent, settings: Settings) -> Changes:
    """Ends what came before it. A limit is only disproved by a call that began after it:
    answers that were under way keep coming for minutes after the quota is gone.
    """
    last_of_all = event.at >= (row.last_failure or 0.0)
    lifted = {
        None: False,
        Cause.FAILURES: last_of_all,
        Cause.LIMIT: event.started >= (row.since or 0.0),
        Cause.OPERATOR: False,
    }
    changes: Changes = {
        "last_success": _later(row.last_success, event.at),
        "proven_at": _later(row.proven_at, event.started),
    }
    if last_of_all:
        changes["failures"] = 0
    return changes | (_OPEN if lifted[row.cause] else {}) | _give_back(row, event)


def _give_back(row: HealthRow, event: HealthEvent) -> Changes:
    """Only its owner ends a lease, and nothing else does, not even the end of the cooldown.

    It may have run out and be somebody else's by now; and a probe that is still under way when
    the next cooldown begins has to keep others out.
    """
    if not event.owner or event.owner != row.probe_owner:
        return {}
    return {"probe_owner": "", "probe_until": None}


def _on_probe_started(row: HealthRow, event: HealthEvent, settings: Settings) -> Changes:
    return {"probe_owner": event.owner, "probe_until": event.at + PROBE_SECONDS}


def _on_probe_failed(row: HealthRow, event: HealthEvent, settings: Settings) -> Changes:
    """The end of the cooldown and the count stay as they are."""
    probed = {"probe_at": _later(row.probe_at, event.at)}
    return probed | _error(row, event) | _give_back(row, event)


def _on_probe_returned(row: HealthRow, event: HealthEvent, settings: Settings) -> Changes:
    return _give_back(row, event)


def _on_reset(row: HealthRow, event: HealthEvent, settings: Settings) -> Changes:
    return {"failures": 0, "proven_at": _later(row.proven_at, event.at)} | _OPEN


def _on_cool_down(row: HealthRow, event: HealthEvent, settings: Settings) -> Changes:
    until = min(event.until or event.at, event.at + MAX_NAMED)
    closed = _OPEN | {"cause": Cause.OPERATOR, "reason": event.reason}
    return closed | {"since": event.at, "until": until, "probe_at": event.at}


_TRANSITIONS: dict[EventKind, Callable[[HealthRow, HealthEvent, Settings], Changes]] = {
    EventKind.FAILURE: _on_failure,
    EventKind.SUCCESS: _on_success,
    EventKind.LIMIT: _on_limit,
    EventKind.PROBE_STARTED: _on_probe_started,
    EventKind.PROBE_FAILED: _on_probe_failed,
    EventKind.PROBE_RETURNED: _on_probe_returned,
    EventKind.RESET: _on_reset,
    EventKind.COOL_DOWN: _on_cool_down,
}
