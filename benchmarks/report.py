"""Medians and spreads of all rounds, as a document and as a table."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from benchmarks.goals import verdicts
from benchmarks.servers import DIRECT
from benchmarks.workloads import WORKLOADS, Measured, median

_FIGURES = ("rate", "per_cpu_second", "busy", "load", "per_event", "p50", "p99", "rss", "peak")


def progress(number: int, result: Measured) -> None:
    line = (
        f"round {number + 1} {result.workload:8} {result.server:20}"
        f" {result.rate:9.0f}/s"
        f" {result.per_cpu_second:9.0f}/core  busy {result.busy:4.0%}"
        f"  p50 {result.p50:7.2f} p99 {result.p99:7.2f} ms"
        f"  {result.per_event:5.1f} us/event  rss {result.rss:4.0f} MB {result.error[:200]}"
    )
    print(line, file=sys.stderr, flush=True)


def summary(results: Iterable[Measured], starts: Mapping[str, float]) -> dict[str, Any]:
    """`{"rows": [{"workload", "server", "per_cpu_second": {"median", "low", "high"}, ...}],
    "goals": [{"workload", "figure", "value", "must", "aim", "holds"}], ...}`."""
    groups: defaultdict[tuple[str, str], list[Measured]] = defaultdict(list)
    rounds = list(results)
    for result in rounds:
        if not result.error:
            groups[result.workload, result.server].append(result)
    rows: list[dict[str, Any]] = []
    for (workload, server), group in groups.items():
        row: dict[str, Any] = {"workload": workload, "server": server, "rounds": len(group)}
        for name in _FIGURES:
            values = [float(getattr(result, name)) for result in group]
            row[name] = {"median": median(values), "low": min(values), "high": max(values)}
        rows.append(row)
    failed = [asdict(result) for result in rounds if result.error]
    return {
        "rows": rows,
        "goals": [asdict(verdict) for verdict in verdicts(rows)],
        "start_seconds": dict(starts),
        "failed": failed,
    }


def table(document: Mapping[str, Any]) -> str:
    """What a person wants to see."""
    lines: list[str] = []
    by_key = {(row["workload"], row["server"]): row for row in document["rows"]}
    for workload in WORKLOADS:
        rows = [row for row in document["rows"] if row["workload"] == workload.name]
        if not rows:
            continue
        lines += ["", f"{workload.name}: {workload.title}"]
        lines.append(_HEADINGS)
        base = by_key.get((workload.name, DIRECT)) if workload.tells_latency else None
        lines += [_line(row, base) for row in rows]
        lines += [_goal(goal) for goal in document["goals"] if goal["workload"] == workload.name]
    lines += ["", "Seconds until the first request is answered:"]
    lines += [f"  {name:20} {value:5.2f}" for name, value in document["start_seconds"].items()]
    if document.get("slow_reader"):
        lines += ["", "Memory of a stream of 64 MB whose client has stopped reading:"]
        lines += [_figure(document["slow_reader"])]
    if document.get("micro"):
        lines += ["", "Single steps:"]
        lines += [_figure(figure) for figure in document["micro"]]
    for result in document["failed"]:
        lines.append(f"FAILED {result['workload']} {result['server']}: {result['error'][:300]}")
    return "\n".join(lines)


def _goal(goal: Mapping[str, Any]) -> str:
    wanted = f"must {goal['must']:g}"
    if goal["aim"] is not None:
        wanted += f", aim {goal['aim']:g}"
    return f"  {goal['holds']:>6}: {goal['figure']} {goal['value']:.2f} ({wanted})"


def _figure(figure: Mapping[str, Any]) -> str:
    value = f"{figure['value']:,.2f} {figure['unit']}"
    return f"  {figure['name']:42} {value:>16}   (goal: {figure['goal']})"


_HEADINGS = (
    f"  {'':20} {'calls/s':>8} {'calls/CPU s':>12} {'(spread)':>17} {'us/event':>9} {'core':>5}"
    f" {'added p50':>10} {'p99 ms':>7} {'RSS':>5} {'peak MB':>7} {'load core':>10}"
)


def _line(row: Mapping[str, Any], base: Mapping[str, Any] | None) -> str:
    rate, event = row["per_cpu_second"], row["per_event"]["median"]
    spread = f"({rate['low']:,.0f}-{rate['high']:,.0f})"
    added = ["", ""]
    if base is not None:
        added = [f"{row[name]['median'] - base[name]['median']:.2f}" for name in ("p50", "p99")]
    return (
        f"  {row['server']:20} {row['rate']['median']:8,.0f}"
        f" {rate['median']:12,.0f} {spread:>17} {event:9.1f}"
        f" {row['busy']['median']:5.0%} {added[0]:>10} {added[1]:>7}"
        f" {row['rss']['median']:5.0f} {row['peak']['median']:7.0f} {row['load']['median']:10.0%}"
    )
