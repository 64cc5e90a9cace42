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
    {RequestLog.Outcome.FAILED, RequestLog.Outcome.REFUSED, RequestLog.Outcome.BROKEN}
)
"""Outcomes that are not what the client came for."""

_REQUESTS_FAULT = frozenset({400, 404, 405, 409, 413, 415, 422})
"""Statuses that say something about the request, and nothing about the provider."""

_NO_ANSWER_DUE = frozenset({"", "cancelled", "local"})
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
    found: defaultdict[tuple[int, str], Counter[str]] = defaultdict(Counter)
    for record in records:
        if record.path != MESSAGES:
            continue
        hour = int(record.time // 3600)
        _count_call(found[hour, record.provider], record)
        for attempt in record.attempts:
            _count_attempt(found[hour, attempt.provider], attempt)
    return {(hour_of(hour * 3600), provider): found[hour, provider] for hour, provider in found}


def _count_call(counts: Counter[str], record: CallRecord) -> None:
    usage, outcome = record.usage, record.outcome
    counts["calls"] += 1
    counts["fallbacks"] += record.fell_back
    counts["errors"] += outcome in ERRORS
    if outcome == RequestLog.Outcome.BROKEN:
        # Its last attempt had begun well.
        counts["failures"] += 1
    counts["input_tokens"] += counted(usage.input) or 0
    counts["output_tokens"] += counted(usage.output) or 0
    counts["cache_read_tokens"] += counted(usage.cache_read) or 0
    counts["cache_creation_tokens"] += counted(usage.cache_creation) or 0


def _count_attempt(counts: Counter[str], attempt: AttemptRecord) -> None:
    if attempt.kind == "skipped" or attempt.result in _NO_ANSWER_DUE:
        return
    status = attempt.status
    fine = status is not None and (200 <= status < 300 or status in _REQUESTS_FAULT)
    counts["attempts"] += 1
    counts["failures"] += not fine
