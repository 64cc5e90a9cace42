"""What the proxy has to reach, as ratios to other servers in the same run, and whether it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.servers import DIRECT, LITELLM, NGINX, OURS, OURS_OPENAI

Rows = Mapping[tuple[str, str], Mapping[str, Any]]
"""The report's rows by workload and server."""

Measure = Callable[[Rows, str], float]
"""One figure of this proxy under a workload. Raises `KeyError` where a reference is missing."""


@dataclass(frozen=True, slots=True)
class Goal:
    """`aim` is what to strive for, `must` what may not be missed. `most`: a value to stay below."""

    workload: str
    figure: str
    measure: Measure
    must: float
    aim: float | None = None
    most: bool = False

    def reached(self, value: float, goal: float | None) -> bool:
        if goal is None:
            return False
        return value <= goal if self.most else value >= goal


@dataclass(frozen=True, slots=True)
class Verdict:
    """`holds`: "aim", "must" or "missed"."""

    workload: str
    figure: str
    value: float
    must: float
    aim: float | None
    holds: str


def verdicts(rows: Sequence[Mapping[str, Any]]) -> Iterator[Verdict]:
    """What can be said of the rows of a run: goals without their reference are left out."""
    by_key = {(row["workload"], row["server"]): row for row in rows}
    for goal in GOALS:
        try:
            value = goal.measure(by_key, goal.workload)
        except KeyError:
            continue
        must = "must" if goal.reached(value, goal.must) else "missed"
        holds = "aim" if goal.reached(value, goal.aim) else must
        yield Verdict(goal.workload, goal.figure, value, goal.must, goal.aim, holds)


def _median(rows: Rows, workload: str, server: str, name: str) -> float:
    return float(rows[workload, server][name]["median"])


def _times(server: str, factor: float = 1.0, ours: str = OURS) -> Measure:
    """How much more than `server` we do with the same CPU."""

    def measure(rows: Rows, workload: str) -> float:
        base = _median(rows, workload, server, "per_cpu_second")
        return factor * _median(rows, workload, ours, "per_cpu_second") / base

    return measure


def _added(name: str) -> Measure:
    """Milliseconds more than without anybody in between."""
    return lambda rows, workload: (
        _median(rows, workload, OURS, name) - _median(rows, workload, DIRECT, name)
    )


def _own(name: str, factor: float = 1.0) -> Measure:
    return lambda rows, workload: factor * _median(rows, workload, OURS, name)


GOALS = (
    Goal("latency", "added p50, ms", _added("p50"), 0.8, 0.5, most=True),
    Goal("latency", "added p99, ms", _added("p99"), 2.5, 1.5, most=True),
    Goal("W1", "% of nginx", _times(NGINX, 100), 4, 8),
    Goal("W1", "times LiteLLM", _times(LITELLM), 17, 34),
    Goal("W2", "% of nginx", _times(NGINX, 100), 55, 70),
    Goal("W2", "times LiteLLM", _times(LITELLM), 10),
    Goal("W4", "times LiteLLM", _times(LITELLM), 23, 58),
    Goal("openai", "times LiteLLM", _times(LITELLM, ours=OURS_OPENAI), 4),
    Goal("W3", "% of a core", _own("busy", 100), 30, 25, most=True),
    Goal("W3", "RSS, MB", _own("rss"), 120, 90, most=True),
    Goal("W3", "added p50 of an event, ms", _added("p50"), 1, most=True),
)
