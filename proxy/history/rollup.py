"""What every hour amounts to, kept beside the rows: the charts never read the whole history."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from django.db import connection
from django.db.backends.utils import CursorWrapper

from proxy.call import MESSAGES
from proxy.history.records import AttemptRecord, CallRecord, counted
from proxy.models import HourlyFigures, RequestLog
from proxy.pacing import paced

Key = tuple[datetime.datetime, str]
"""The hour, in UTC, and a provider's name."""

AT_ONCE = 64
"""Calls between two rests."""

_BROKEN = RequestLog.Outcome.BROKEN.value
ERRORS = frozenset(
    {
        RequestLog.Outcome.FAILED.value,
        RequestLog.Outcome.REFUSED.value,
        _BROKEN,
        RequestLog.Outcome.STOPPED.value,
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
    figures = _figures(records)
    with connection.cursor() as cursor:
        for hour, provider in sorted(figures):
            sums = asdict(figures[hour, provider])
            if any(sums.values()) and not _add(cursor, hour, provider, sums):
                new = HourlyFigures(hour=hour, provider=provider)
                HourlyFigures.objects.bulk_create([new], ignore_conflicts=True)
                _add(cursor, hour, provider, sums)


def _add(
    cursor: CursorWrapper, hour: datetime.datetime, provider: str, sums: Mapping[str, int]
) -> bool:
    """Whether there is a row that could be added to.

    SQL of our own: to put this statement together takes the ORM almost a millisecond, which is
    most of what a batch of a single call costs.
    """
    quote = connection.ops.quote_name
    grown = ", ".join(f"{quote(name)} = {quote(name)} + %s" for name in sums)
    # Names from this module alone.
    cursor.execute(
        f"UPDATE {quote(HourlyFigures._meta.db_table)} SET {grown} "  # noqa: S608
        f"WHERE {quote('hour')} = %s AND {quote('provider')} = %s",
        [*sums.values(), connection.ops.adapt_datetimefield_value(hour), provider],
    )
    return bool(cursor.rowcount)


def hour_of(time: float) -> datetime.datetime:
    """The beginning of the hour that epoch second `time` lies in."""
    return datetime.datetime.fromtimestamp(time // 3600 * 3600, datetime.UTC)


@dataclass(slots=True)
class _Sums:
    """Of one hour at one provider: what is to be added to its row of `HourlyFigures`."""

    calls: int = 0
    fallbacks: int = 0
    errors: int = 0
    attempts: int = 0
    failures: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_creation_tokens: int = 0

    def add_call(self, record: CallRecord) -> None:
        usage = record.usage
        self.calls += 1
        self.fallbacks += record.fell_back
        self.errors += record.outcome in ERRORS
        self.failures += record.outcome == _BROKEN  # its last attempt had begun well
        self.input_tokens += counted(usage.input) or 0
        self.output_tokens += counted(usage.output) or 0
        self.cache_read_tokens += counted(usage.cache_read) or 0
        self.cache_creation_tokens += counted(usage.cache_creation) or 0

    def add_attempt(self, attempt: AttemptRecord) -> None:
        if attempt.kind == "skipped" or attempt.result in _NO_ANSWER_DUE:
            return
        status = attempt.status
        fine = status is not None and (200 <= status < 300 or status in _REQUESTS_FAULT)
        self.attempts += 1
        self.failures += not fine


def _figures(records: Iterable[CallRecord]) -> dict[Key, _Sums]:
    found: defaultdict[tuple[int, str], _Sums] = defaultdict(_Sums)
    for record in paced(records, AT_ONCE):
        if record.path != MESSAGES:
            continue
        hour = int(record.time // 3600)
        found[hour, record.provider].add_call(record)
        for attempt in record.attempts:
            found[hour, attempt.provider].add_attempt(attempt)
    return {(hour_of(hour * 3600), provider): sums for (hour, provider), sums in found.items()}
