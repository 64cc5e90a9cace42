"""The figures behind the dashboard: read from the hourly table, never from the whole history."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

from django.db.models import Sum
from django.utils import timezone

from proxy.call import MESSAGES
from proxy.models import HourlyFigures, RequestLog

COUNTS = (
    "calls",
    "fallbacks",
    "errors",
    "attempts",
    "failures",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_creation_tokens",
)
RECENT_CALLS = 2_000
"""How many of the newest calls the median first byte is taken of."""


@dataclass(slots=True)
class Figures:
    """Sums of calls, attempts and tokens. `input_tokens` excludes what came from a cache."""

    calls: int = 0
    fallbacks: int = 0
    errors: int = 0
    attempts: int = 0
    failures: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_creation_tokens: int = 0

    def add(self, other: Figures) -> None:
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def prompt_tokens(self) -> int:
        """The whole prompts, cached or not."""
        return self.input_tokens + self.cache_read_tokens + self.cache_creation_tokens


@dataclass(frozen=True, slots=True)
class Range:
    """A time that can be looked at: so many columns, each so many hours wide."""

    name: str
    columns: int
    hours: int

    def begin(self, now: float) -> float:
        """Where its first column begins. The last one is under way, and begins on the clock.

        Hours are those of UTC, so where the clock is half an hour off, a day is so, too.
        """
        width = self.hours * 3600
        difference = timezone.localtime(_moment(now)).utcoffset() or datetime.timedelta()
        offset = difference.total_seconds() // 3600 * 3600
        end = ((now + offset) // width + 1) * width - offset
        return end - self.columns * width


RANGES = {r.name: r for r in (Range("24h", 24, 1), Range("7d", 28, 6), Range("30d", 30, 24))}


@dataclass(slots=True)
class Column:
    """One column of the chart, from `begin` to `end` in epoch seconds; "" is nobody."""

    begin: int
    end: int
    providers: dict[str, Figures] = field(default_factory=lambda: defaultdict(Figures))

    @property
    def total(self) -> Figures:
        return total(self.providers.values())


def columns_of(range_: Range, now: float) -> list[Column]:
    """The columns of a range, each with the figures of its providers. One query."""
    first, width = int(range_.begin(now)), range_.hours * 3600
    columns = [Column(first + i * width, first + (i + 1) * width) for i in range(range_.columns)]
    rows = HourlyFigures.objects.filter(hour__gte=_moment(first), hour__lt=_moment(columns[-1].end))
    for hour, provider, *counts in rows.order_by().values_list("hour", "provider", *COUNTS):
        column = columns[(int(hour.timestamp()) - first) // width]
        column.providers[provider].add(Figures(*counts))
    return columns


def by_provider(columns: Iterable[Column]) -> dict[str, Figures]:
    """The sums of each provider that occurs."""
    sums: dict[str, Figures] = defaultdict(Figures)
    for column in columns:
        for provider, figures in column.providers.items():
            sums[provider].add(figures)
    return dict(sums)


def since(begin: float) -> dict[str, Figures]:
    """The sums of each provider since the hour that epoch second `begin` lies in. One query."""
    rows = HourlyFigures.objects.filter(hour__gte=_moment(begin // 3600 * 3600)).order_by()
    sums = rows.values_list("provider").annotate(*(Sum(name) for name in COUNTS))
    return {provider: Figures(*counts) for provider, *counts in sums}


def total(figures: Iterable[Figures]) -> Figures:
    """The sum of all of them."""
    result = Figures()
    for one in figures:
        result.add(one)
    return result


def median_first_bytes(begin: float) -> dict[str, float]:
    """Milliseconds until the first byte, the median of each provider's newest calls."""
    newest = RequestLog.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    rows = RequestLog.objects.filter(
        pk__gt=newest - RECENT_CALLS, time__gte=_moment(begin), first_byte_ms__isnull=False
    )
    found: defaultdict[str, list[int]] = defaultdict(list)
    answers = rows.filter(path=MESSAGES, outcome=RequestLog.Outcome.ANSWERED).order_by()
    for provider, first_byte in answers.values_list("provider", "first_byte_ms"):
        found[provider].append(first_byte or 0)
    return {provider: median(values) for provider, values in found.items()}


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
