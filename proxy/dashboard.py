"""The front page: who is answering and why, when the primary returns, and how it has been."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from providers.badges import countdown, return_line, state_badge
from providers.conditions import ProviderCondition, conditions_of
from providers.models import AccessToken, Provider
from providers.phrases import clock, compact, milliseconds, percent, span
from proxy import charts, figures
from proxy.figures import RANGES, Column, Figures
from proxy.history_links import FALLBACKS, FAULTS, MESSAGES_ONLY, history_link, period
from proxy.models import RequestLog

LAST_CALLS = 10
COLOURS = 8
NOBODY = "nobody"


def dashboard(request: HttpRequest, now: float) -> dict[str, Any]:
    """The context of the front page: of each part, what this user may see."""
    context: dict[str, Any] = {"now": now}
    providers = list(Provider.objects.order_by("position", "pk").defer("api_key", "extra_headers"))
    sees_history = request.user.has_perm("proxy.view_requestlog")
    if request.user.has_perm("providers.view_provider"):
        conditions = conditions_of(providers, now)
        context["headline"] = headline(conditions, now)
        context["cards"] = cards(conditions, now, with_figures=sees_history)
    if sees_history:
        range_ = RANGES.get(request.GET.get("range", ""), RANGES["24h"])
        order = [provider.name for provider in providers]
        context |= history(figures.columns_of(range_, now), order, now)
        context["ranges"] = [(r.name, _RANGE_NAMES[r.name](), r is range_) for r in RANGES.values()]
        context["last_calls"] = last_calls()
        context["first_steps"] = first_steps(request, providers, bool(context["last_calls"]))
    return context


_RANGE_NAMES = {
    "24h": lambda: _("24 hours"),
    "7d": lambda: _("7 days"),
    "30d": lambda: _("30 days"),
}


# --- who is answering -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Headline:
    """`style` colours it; `rest` says why it is not the primary, and when that returns."""

    style: str
    text: str
    rest: str = ""
    countdown: SafeString | str = ""


def headline(conditions: Sequence[ProviderCondition], now: float) -> Headline:
    """Who answers the next call, and why."""
    active = [c for c in conditions if c.state != "disabled"]
    if not active:
        return Headline("ccf-bad", _("No provider is enabled: nobody can answer a call."))
    primary = active[0]
    answering = next((c for c in active if c.open), None)
    if answering is primary:
        if primary.until is None:
            return Headline("ccf-good", _("%s is answering.") % primary.name)
        return Headline(
            "ccf-warn", _("%s is answering.") % primary.name, _limited(primary, now),
            countdown(primary.until, now),
        )  # fmt: skip
    why = _("%(name)s is cooling down %(until)s.") % {
        "name": primary.name,
        "until": return_line(primary, now),
    }
    back = countdown(primary.until, now) if primary.until is not None else ""
    if answering is None:
        soonest = min(active, key=lambda c: c.until or now)
        text = _("Every provider is cooling down; %s is tried all the same.") % soonest.name
        return Headline("ccf-bad", text, why, back)
    return Headline("ccf-warn", _("%s is answering.") % answering.name, why, back)


def _limited(condition: ProviderCondition, now: float) -> str:
    return _("Cooling down %s.") % return_line(condition, now)


@dataclass(frozen=True, slots=True)
class Card:
    """One provider, now and over the last 24 hours."""

    name: str
    url: str
    place: int
    badge: SafeString
    until: str
    countdown: SafeString | str
    first_byte: str
    success: str
    calls: str
    calls_url: str
    last_error: str


def cards(conditions: Sequence[ProviderCondition], now: float, *, with_figures: bool) -> list[Card]:
    """A card a provider, in their order."""
    begin = RANGES["24h"].begin(now)
    sums = figures.since(begin) if with_figures else {}
    medians = figures.median_first_bytes(begin) if with_figures else {}
    return [
        _card(place, condition, sums.get(condition.name, Figures()), medians, begin, now)
        for place, condition in enumerate(conditions, start=1)
    ]


def _card(
    place: int,
    condition: ProviderCondition,
    sums: Figures,
    medians: dict[str, float],
    begin: float,
    now: float,
) -> Card:
    return Card(
        name=condition.name,
        url=reverse("admin:providers_provider_change", args=[condition.provider_id]),
        place=place,
        badge=state_badge(condition),
        until=return_line(condition, now),
        countdown=countdown(condition.until, now)
        if condition.until is not None and condition.state != "disabled"
        else "",
        first_byte=milliseconds(medians.get(condition.name)),
        success=percent(sums.attempts - sums.failures, sums.attempts),
        calls=compact(sums.calls),
        calls_url=history_link(
            provider=condition.name, **period(begin, _next_hour(now)), **MESSAGES_ONLY
        ),
        last_error=_last_error(condition, now),
    )


def _last_error(condition: ProviderCondition, now: float) -> str:
    """What it said last, as long as it keeps failing."""
    if not condition.failures or not condition.last_error or condition.last_failure is None:
        return ""
    ago = span(now - condition.last_failure)
    return _("%(ago)s ago: %(error)s") % {"ago": ago, "error": condition.last_error}


def _next_hour(now: float) -> float:
    return now // 3600 * 3600 + 3600


# --- how it has been --------------------------------------------------------


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
            _("%s calls") % f"{whole.fallbacks:,}",
            history_link(**filters, **FALLBACKS),
        ),
        Tile(
            _("Errors"),
            percent(whole.errors, whole.calls),
            _("%s calls") % f"{whole.errors:,}",
            history_link(**filters, **FAULTS),
        ),
        Tile(
            _("Tokens in"),
            compact(whole.prompt_tokens),
            _("%s from caches") % percent(whole.cache_read_tokens, whole.prompt_tokens),
        ),
        Tile(_("Tokens out"), compact(whole.output_tokens), _("written by models")),
    ]


def _row(name: str, series: str, sums: Figures, whole: Figures, begin: int, end: int) -> Row:
    filters = {"provider": name, **period(begin, end), **MESSAGES_ONLY}
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


@dataclass(frozen=True, slots=True)
class LastCall:
    """A call and its times as people read them."""

    row: RequestLog
    url: str
    first_byte: str
    duration: str


def last_calls() -> list[LastCall]:
    """The newest calls, newest first."""
    return [
        LastCall(
            row=row,
            url=reverse("admin:proxy_requestlog_change", args=[row.pk]),
            first_byte=milliseconds(row.first_byte_ms),
            duration=milliseconds(row.duration_ms),
        )
        for row in RequestLog.objects.order_by("-pk")[:LAST_CALLS]
    ]


# --- the first minutes ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do before the first call."""

    text: str
    url: str
    done: bool


def first_steps(request: HttpRequest, providers: Sequence[Provider], has_calls: bool) -> list[Step]:
    """What is left to do; empty once calls have come."""
    if has_calls:
        return []
    return [
        Step(
            _("Add a provider to fall back to"),
            reverse("admin:providers_provider_add"),
            any(p.credentials == Provider.Credentials.OWN and p.enabled for p in providers),
        ),
        Step(
            _("Create a token for your client"),
            reverse("admin:providers_accesstoken_add"),
            AccessToken.objects.filter(enabled=True).exists(),
        ),
        Step(_("Connect Claude Code, and ask it something"), reverse("admin:connect"), False),
    ]
