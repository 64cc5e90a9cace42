"""Geometry of the charts: plain numbers for inline SVG. Knows neither Django nor colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HEIGHT = 100.0
"""Of a chart, in its own units; a column is one unit wide."""

_GAP = 0.12
_STEPS = (1, 2, 4, 5, 10)


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a column. `series` numbers its colour."""

    series: int
    x: str
    y: str
    width: str
    height: str


def stacked(columns: Sequence[Sequence[int]], top: int) -> list[list[Segment]]:
    """Segments of each column, from the bottom up; `columns[i][s]` is the value of series `s`."""
    return [_column(number, values, top) for number, values in enumerate(columns)]


def _column(number: int, values: Sequence[int], top: int) -> list[Segment]:
    segments, below = [], 0
    for series, value in enumerate(values):
        if value:
            height = HEIGHT * value / top
            y = HEIGHT - HEIGHT * below / top - height
            x, width = number + _GAP / 2, 1 - _GAP
            segments.append(
                Segment(series, f"{x:.2f}", f"{y:.2f}", f"{width:.2f}", f"{height:.2f}")
            )
            below += value
    return segments


def round_top(highest: int) -> int:
    """The end of the scale: the next round number that halves well."""
    if highest <= 2:
        return 2
    magnitude = int("1" + "0" * (len(str(highest)) - 1))
    return next(step * magnitude for step in _STEPS if step * magnitude >= highest)


@dataclass(frozen=True, slots=True)
class Span:
    """A bar of a waterfall, in per cent of its whole width."""

    x: str
    width: str


def waterfall(spans: Sequence[tuple[int, int]], whole: int) -> list[Span]:
    """Bars from (start, duration) on a scale of `whole`; the shortest ones stay visible."""
    scale = max(whole, 1)
    bars = []
    for start, duration in spans:
        x = min(100.0 * start / scale, 99.5)
        width = max(0.5, min(100.0 * duration / scale, 100.0 - x))
        bars.append(Span(f"{x:.2f}", f"{width:.2f}"))
    return bars
