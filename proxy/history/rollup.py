"""What every hour amounts to, kept beside the rows: the charts never read the whole history."""

from __future__ import annotations

import datetime
from collections import Counter, defaultdict
from collections.abc import Iterable

from django.db.models import F

from proxy.call import MESSAGES
from proxy.history.records import AttemptRecord, CallRecord, counted
from proxy.models import HourlyFigures, RequestLog

Key = tuple[datetime.datetime, str]
"""The hour, in UTC, and a provider's name."""

ERRORS = frozenset(
    {
        RequestLog.Outcome.FAILED,
        RequestLog.Outcome.REFUSED,
        RequestLog.Outcome.BROKEN,
        RequestLog.Outcome.STOPPED,
    }
)
"""Outcomes that are not what the client came for."""

_REQUESTS_FAULT = frozenset({400, 404, 405, 409, 413, 415, 422})
"""Statuses that say something about the request, and nothing about the provider."""

_NO_ANSWER_DUE = frozenset({"", "cancelled", "stopped", "local"})
"""Results of attempts that were given up, or never left the proxy."""


def add_figures(records: Iterable[CallRecord]) -> None:
    """Add finished calls to their hours. Inside the transaction that writes their rows.

    The keys are taken in order, so that two writers cannot wait for each other.
    """
    for (hour, provider), counts in sorted(_figures(records).items()):
        row = HourlyFigures.objects.filter(hour=hour, provider=provider)
        grown = {name: F(name) + count for name, count in counts.items() if count}
        if grown and not row.update(**grown):
            new = HourlyFigures(hour=hour, provider=provider)
            HourlyFigures.objects.bulk_create([new], ignore_conflicts=True)
            row.update(**grown)


def hour_of(time: float) -> datetime.datetime:
    """The beginning of the hour that epoch second `time` lies in."""
    return datetime.datetime.fromtimestamp(time // 3600 * 3600, datetime.UTC)


def _figures(records: Iterable[CallRecord]) -> dict[Key, Counter[str]]:
    found: defaultdict[Key, Counter[str]] = defaultdict(Counter)
    for record in records:
        if record.path != MESSAGES:
            continue
        hour = hour_of(record.time)
        found[hour, record.provider].update(_of_call(record))
        for attempt in record.attempts:
            found[hour, attempt.provider].update(_of_attempt(attempt))
        if record.outcome == RequestLog.Outcome.BROKEN:
            # Its last attempt had begun well.
            found[hour, record.provider]["failures"] += 1
    return found


def _of_call(record: CallRecord) -> dict[str, int]:
    return {
        "calls": 1,
        "fallbacks": int(record.fell_back),
        "errors": int(record.outcome in ERRORS),
        "input_tokens": counted(record.usage.input) or 0,
        "output_tokens": counted(record.usage.output) or 0,
        "cache_read_tokens": counted(record.usage.cache_read) or 0,
        "cache_creation_tokens": counted(record.usage.cache_creation) or 0,
    }


def _of_attempt(attempt: AttemptRecord) -> dict[str, int]:
    if attempt.kind == "skipped" or attempt.result in _NO_ANSWER_DUE:
        return {}
    status = attempt.status
    fine = status is not None and (200 <= status < 300 or status in _REQUESTS_FAULT)
    return {"attempts": 1, "failures": int(not fine)}
