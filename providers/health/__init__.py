"""The health of providers: a circuit breaker for each, and for each credential and model there.

    rows.py        what is remembered: `HealthRow`, and the facts that change it: `HealthEvent`
    arithmetic.py  pure functions: tiers, cooldowns, leases, `apply(row, event)`
    limits.py      when a provider says that it will be back: headers to `Limit`
    outcomes.py    how an attempt went: `Outcome`
    decisions.py   `Decision`: may this target be asked, and what its outcome changes
    table.py       `HealthTable`: admission and recording in one worker
    ledger.py      its rows, and the events that are still to be written
    probes.py      its leases
    avoidance.py   what single conversations stay away from
    state.py       health in the words of the status pages

Pure and in memory: no Django, no I/O, no clock (`now` is epoch seconds), no threads. Rows are
shared through the database by a writer and a watcher of their own:

    writer    events = table.drain_changes(); in one transaction, for each event,
              row = apply(row, event, settings, time.time()); then table.confirm(rows, ...),
              or table.restore_changes() if that failed
    watcher   mark = table.mark; table.load(all rows, settings, now, mark);
              for each key of table.probes_due(...): if probe_due(row, ...) write
              claim(row, table.worker, now) where the version is unchanged, then
              table.grant_probe(key, its probe_until)

What conversations avoid is shared in the same way: `table.avoidance`.
"""

from providers.health.arithmetic import (
    MAX_NAMED,
    apply,
    claim,
    closed_until,
    is_spent,
    probe_due,
    tier_cooldown,
)
from providers.health.avoidance import AVOID_SECONDS, MAX_CONVERSATIONS, Avoidance, Avoided
from providers.health.decisions import Caller, Decision
from providers.health.limits import Limit
from providers.health.outcomes import (
    CANCELLED,
    IGNORED,
    SUCCESS,
    Outcome,
    OutcomeKind,
    failure,
    outcome_of,
)
from providers.health.rows import Cause, EventKind, HealthEvent, HealthKey, HealthRow, Scope
from providers.health.state import Condition, ProviderState, describe
from providers.health.table import HealthTable

__all__ = [
    "AVOID_SECONDS",
    "CANCELLED",
    "IGNORED",
    "MAX_CONVERSATIONS",
    "MAX_NAMED",
    "SUCCESS",
    "Avoidance",
    "Avoided",
    "Caller",
    "Cause",
    "Condition",
    "Decision",
    "EventKind",
    "HealthEvent",
    "HealthKey",
    "HealthRow",
    "HealthTable",
    "Limit",
    "Outcome",
    "OutcomeKind",
    "ProviderState",
    "Scope",
    "apply",
    "claim",
    "closed_until",
    "describe",
    "failure",
    "is_spent",
    "outcome_of",
    "probe_due",
    "tier_cooldown",
]
