"""The front page: who is answering and why, when the primary returns, and how it has been."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from providers.admin.phrases import milliseconds
from providers.conditions import conditions_of
from providers.models import AccessToken, Provider
from proxy.admin import figures
from proxy.admin.figures import RANGES
from proxy.admin.looking_back import history
from proxy.admin.now import cards, headline
from proxy.models import RequestLog

LAST_CALLS = 10


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
