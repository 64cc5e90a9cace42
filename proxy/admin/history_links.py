"""Links into the filtered history."""

from __future__ import annotations

from django.urls import reverse

from proxy.history.rollup import ERRORS

MESSAGES_ONLY = {"kind": "messages"}
FALLBACKS = {"fell_back__exact": "1"}
FAULTS = {"outcome__in": ",".join(sorted(ERRORS))}


def history_link(**filters: str) -> str:
    """The history with these filters."""
    return reverse("admin:proxy_requestlog_changelist", query=filters)


def period(begin: float, end: float) -> dict[str, str]:
    """The filter for calls that began from `begin` on and before `end`, in epoch seconds."""
    return {"since": f"{begin:.0f}-{end:.0f}"}
