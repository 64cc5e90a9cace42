"""The upper half of the front page: who is answering and why, and when the primary returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from providers.admin.badges import countdown, return_line, state_badge
from providers.admin.phrases import compact, milliseconds, percent, span
from providers.conditions import ProviderCondition
from proxy.admin import figures
from proxy.admin.figures import RANGES, Figures
from proxy.admin.history_links import MESSAGES_ONLY, choice_of, history_link, period


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
            provider=choice_of(condition.name), **period(begin, _next_hour(now)), **MESSAGES_ONLY
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
