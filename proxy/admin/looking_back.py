"""The lower half of the front page: figures of a range, each a link to its calls."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from providers.admin.phrases import clock, compact, percent
from proxy.admin import charts, figures
from proxy.admin.figures import Column, Figures
from proxy.admin.history_links import (
    FALLBACKS,
    FAULTS,
    MESSAGES_ONLY,
    choice_of,
    history_link,
    period,
)

COLOURS = 8
NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Tile:
    """One large figure; `note` says what it is made of."""

    label: str
    figure: str
    note: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """What one provider has answered. `series` numbers its colour."""

    name: str
    series: str
    figures: Figures
    url: str
    fallbacks_url: str
    errors_url: str
    share: str
    success: str
    prompt: str
    cached: str
    output: str


@dataclass(frozen=True, slots=True)
class ChartColumn:
    """A column of the chart, and what it says to those who cannot see it."""

    x: int
    label: str
    url: str
    segments: list[tuple[str, charts.Segment]]
    total: Figures
    tick: str


def history(columns: Sequence[Column], order: Sequence[str], now: float) -> dict[str, Any]:
    """The figures of a range: tiles, chart, and a table by provider."""
    sums = figures.by_provider(columns)
    names = _in_order(sums, order)
    whole = figures.total(sums.values())
    begin, end = columns[0].begin, columns[-1].end
    shown = [name for name in names if sums[name].calls]
    top = charts.round_top(max(column.total.calls for column in columns))
    series = {name: _series(name, order, names) for name in names}
    return {
        "tiles": _tiles(whole, begin, end),
        "chart": _chart_columns(columns, shown, series, top, now),
        "chart_top": compact(top),
        "chart_middle": compact(top // 2),
        "chart_summary": _("%(calls)s calls; at most %(most)s in one column.")
        % {"calls": f"{whole.calls:,}", "most": max(c.total.calls for c in columns)},
        "legend": [(name or _(NOBODY), series[name]) for name in shown],
        "rows": [_row(name, series[name], sums[name], whole, begin, end) for name in names],
    }


def _in_order(sums: dict[str, Figures], order: Sequence[str]) -> list[str]:
    """Configured providers in their order, then former ones, then nobody."""
    places = {name: place for place, name in enumerate(order)}
    return sorted(sums, key=lambda name: (name == "", places.get(name, len(places)), name))


def _series(name: str, order: Sequence[str], names: Sequence[str]) -> str:
    """A provider keeps its colour in every range: it comes with its place."""
    if not name:
        return NOBODY
    former = [n for n in names if n and n not in order]
    return str([*order, *former].index(name) % COLOURS)


def _tiles(whole: Figures, begin: int, end: int) -> list[Tile]:
    filters = {**period(begin, end), **MESSAGES_ONLY}
    return [
        Tile(_("Calls"), f"{whole.calls:,}", _("messages"), history_link(**filters)),
        Tile(
            _("Fallbacks"),
            percent(whole.fallbacks, whole.calls),
            _calls(whole.fallbacks),
            history_link(**filters, **FALLBACKS),
        ),
        Tile(
            _("Errors"),
            percent(whole.errors, whole.calls),
            _calls(whole.errors),
            history_link(**filters, **FAULTS),
        ),
        Tile(
            _("Tokens in"),
            compact(whole.prompt_tokens),
            _("%s from caches") % percent(whole.cache_read_tokens, whole.prompt_tokens),
            history_link(**filters),
        ),
        Tile(
            _("Tokens out"),
            compact(whole.output_tokens),
            _("written by models"),
            history_link(**filters),
        ),
    ]


def _calls(count: int) -> str:
    return ngettext("%s call", "%s calls", count) % f"{count:,}"


def _row(name: str, series: str, sums: Figures, whole: Figures, begin: int, end: int) -> Row:
    filters = {"provider": choice_of(name), **period(begin, end), **MESSAGES_ONLY}
    return Row(
        name=name or _(NOBODY),
        series=series,
        figures=sums,
        url=history_link(**filters),
        fallbacks_url=history_link(**filters, **FALLBACKS),
        errors_url=history_link(**filters, **FAULTS),
        share=percent(sums.calls, whole.calls),
        success=percent(sums.attempts - sums.failures, sums.attempts),
        prompt=compact(sums.prompt_tokens),
        cached=compact(sums.cache_read_tokens),
        output=compact(sums.output_tokens),
    )


def _chart_columns(
    columns: Sequence[Column],
    shown: Sequence[str],
    series: dict[str, str],
    top: int,
    now: float,
) -> list[ChartColumn]:
    values = [[column.providers[name].calls for name in shown] for column in columns]
    stacks = charts.stacked(values, top)
    every = max(1, len(columns) // 6)
    return [
        ChartColumn(
            x=number,
            label=_column_label(column, now),
            url=history_link(**period(column.begin, column.end), **MESSAGES_ONLY),
            segments=[(series[shown[segment.series]], segment) for segment in stack],
            total=column.total,
            tick=_tick(column) if number % every == 0 else "",
        )
        for number, (column, stack) in enumerate(zip(columns, stacks, strict=True))
    ]


def _tick(column: Column) -> str:
    """The time of a narrow column, the day of a wide one."""
    begin = timezone.localtime(datetime.datetime.fromtimestamp(column.begin, datetime.UTC))
    return date_format(begin, "H:i" if column.end - column.begin < 7200 else "D j M")


def _column_label(column: Column, now: float) -> str:
    whole = column.total
    text = ngettext("%(begin)s–%(end)s: %(n)s call", "%(begin)s–%(end)s: %(n)s calls", whole.calls)
    label = text % {
        "begin": clock(column.begin, now),
        "end": clock(column.end, column.begin),
        "n": f"{whole.calls:,}",
    }
    parts = [(whole.fallbacks, _("fallbacks")), (whole.errors, _("errors"))]
    return ", ".join([label, *(f"{count:,} {what}" for count, what in parts if count)])
