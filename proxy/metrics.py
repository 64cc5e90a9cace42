"""What Prometheus may know: counted as the history is written, told at `/metrics`.

With several workers the counts lie in files that all of them can read (the multiprocess mode of
prometheus-client, see `fallbackproxy.counts`), so that whoever answers tells the sum. Labels are
names of providers and words of our own: never a model, a session or a token.
"""

from __future__ import annotations

import os
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from providers.health import ProviderState
from proxy.call import COUNT_TOKENS, MESSAGES
from proxy.history.records import CallRecord, counted
from proxy.pacing import paced

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4.encode()
FILES = "PROMETHEUS_MULTIPROC_DIR"
"""The library's own variable: where several workers count together."""

FIRST_BYTE_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
DURATION_BUCKETS = (0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600, 1800)

AT_ONCE = 32
"""Calls between two rests."""

_ENDPOINTS = {MESSAGES: "messages", COUNT_TOKENS: "count_tokens"}
_TOKENS = ("input", "output", "cache_read", "cache_creation")

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
_ours = CollectorRegistry()

calls = Counter(
    "ccf_calls",
    "Finished calls; provider is who answered, empty for nobody.",
    ("endpoint", "outcome", "provider"),
    registry=_ours,
)
falls = Counter(
    "ccf_falls_over",
    "Calls for messages that this provider answered in place of another one.",
    ("provider",),
    registry=_ours,
)
attempts = Counter(
    "ccf_attempts",
    "Attempts to have messages answered; result is a status, or what happened instead.",
    ("provider", "result"),
    registry=_ours,
)
tokens = Counter(
    "ccf_tokens",
    "Tokens of messages, as the provider counts.",
    ("provider", "kind"),
    registry=_ours,
)
first_byte = Histogram(
    "ccf_first_byte_seconds",
    "From the arrival of a call for messages to the first content of its answer.",
    ("provider",),
    registry=_ours,
    buckets=FIRST_BYTE_BUCKETS,
)
duration = Histogram(
    "ccf_call_duration_seconds",
    "From the arrival of a call for messages to its end.",
    ("provider",),
    registry=_ours,
    buckets=DURATION_BUCKETS,
)
rows_lost = Counter(
    "ccf_log_rows_lost", "Calls that could not be written to the history.", registry=_ours
)


Counts = dict[tuple[Counter, tuple[str, ...]], int]
Times = dict[tuple[Histogram, str], list[float]]


def observe(records: Iterable[CallRecord]) -> None:
    """Count finished calls: summed up first, because every single count is a write to a file."""
    counts: Counts = defaultdict(int)
    times: Times = defaultdict(list)
    for record in paced(records, AT_ONCE):
        provider = record.provider
        counts[calls, (_ENDPOINTS.get(record.path, "other"), record.outcome, provider)] += 1
        if record.path == MESSAGES:
            _add_messages(counts, record)
            times[duration, provider].append(record.duration)
            if record.first_byte is not None:
                times[first_byte, provider].append(record.first_byte)
    for (counter, labels), number in counts.items():
        counter.labels(*labels).inc(number)
    for (histogram, label), seconds in times.items():
        histogram_of_provider = histogram.labels(label)
        for value in paced(seconds, AT_ONCE):
            histogram_of_provider.observe(value)


def _add_messages(counts: Counts, record: CallRecord) -> None:
    for attempt in record.attempts:
        counts[attempts, (attempt.provider, attempt.result)] += 1
    if record.fell_back:
        counts[falls, (record.provider,)] += 1
    for kind in _TOKENS:
        if number := counted(getattr(record.usage, kind)):
            counts[tokens, (record.provider, kind)] += number


def exposition(states: Sequence[tuple[str, ProviderState]], now: float) -> bytes:
    """All counts of this machine and the health of providers, in Prometheus' text format."""
    health = CollectorRegistry()
    health.register(_Health(states, now))
    counts = _ours
    if FILES in os.environ:
        counts = CollectorRegistry()
        counts.register(_AllWorkers())
    return generate_latest(counts) + generate_latest(health)


class _AllWorkers(Collector):
    """The sum over the files of all workers.

    A file that is still empty was made this moment; the library's own collector fails on it.
    """

    def collect(self) -> Iterator[Metric]:
        paths = Path(os.environ[FILES]).glob("*.db")
        files = [str(path) for path in paths if path.stat().st_size]
        yield from MultiProcessCollector.merge(files, accumulate=True)  # type: ignore[no-untyped-call]


class _Health(Collector):
    """What the health table says at this moment, by provider."""

    def __init__(self, states: Sequence[tuple[str, ProviderState]], now: float) -> None:
        self._states = states
        self._now = now

    def collect(self) -> Iterator[GaugeMetricFamily]:
        available = GaugeMetricFamily(
            "ccf_provider_available",
            "1: calls go to it; 0: it is left out for everybody.",
            labels=("provider",),
        )
        returns = GaugeMetricFamily(
            "ccf_provider_return_seconds", "Until it is asked again.", labels=("provider",)
        )
        limits = GaugeMetricFamily(
            "ccf_provider_limits",
            "Logins and models for which alone it is left out.",
            labels=("provider", "scope"),
        )
        for name, state in self._states:
            available.add_metric((name,), float(state.until is None))
            returns.add_metric((name,), 0.0 if state.until is None else state.until - self._now)
            scopes = Tally("model" if limit.key.model else "credential" for limit in state.limits)
            for scope in ("credential", "model"):
                limits.add_metric((name, scope), scopes[scope])
        yield from (available, returns, limits)
