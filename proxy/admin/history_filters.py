"""Filters of the request history that stay cheap at a million rows.

What there is to choose from is never asked of the whole table.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import Any, cast

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from providers.models import Provider
from proxy.admin.history_links import ANY_FAULT, choice_of, read_choice
from proxy.call import COUNT_TOKENS, MESSAGES
from proxy.history.rollup import ERRORS
from proxy.models import RequestLog

RECENT_ROWS = 5_000
"""How many of the newest rows are looked through for the choices of a filter."""

Calls = QuerySet[RequestLog]


def recent_values(request: HttpRequest) -> dict[str, set[str]]:
    """Which providers, models and tokens the newest rows name. One look per page."""
    known = getattr(request, "_ccf_recent_values", None)
    if known is None:
        known = _look()
        request._ccf_recent_values = known  # type: ignore[attr-defined]
    return cast("dict[str, set[str]]", known)


def _look() -> dict[str, set[str]]:
    fields = ("provider", "model", "token")
    # A DISTINCT of the database would tempt it into reading a whole index.
    rows = RequestLog.objects.order_by("-pk").values_list(*fields)[:RECENT_ROWS]
    different = zip(*set(rows), strict=True)
    return {name: set(values) for name, values in zip(fields, different, strict=False)}


class Filter(admin.SimpleListFilter):
    """One of a form's choices: an empty value, which a form sends for it, is none."""

    def value(self) -> str | None:
        # PostgreSQL takes no NUL, not even to look for one.
        return (super().value() or "").replace("\0", "") or None


class RecentValueFilter(Filter):
    """The calls with exactly one value in `column`."""

    column = ""
    empty: Any = None

    def known(self, request: HttpRequest) -> set[str]:
        return recent_values(request).get(self.column, set())

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        names = self.known(request) | {""}
        if (chosen := self.value()) is not None:
            names.add(read_choice(chosen))
        names_in_order = sorted(names, key=lambda n: (not n, n))
        return [(choice_of(name), name or self.empty) for name in names_in_order]

    def queryset(self, request: HttpRequest, queryset: Calls) -> Calls:
        chosen = self.value()
        return queryset if chosen is None else queryset.filter(**{self.column: read_choice(chosen)})


class ProviderFilter(RecentValueFilter):
    title = _("answered by")
    column = parameter_name = "provider"
    empty = _("nobody")

    def known(self, request: HttpRequest) -> set[str]:
        return super().known(request) | set(Provider.objects.values_list("name", flat=True))


class ModelFilter(RecentValueFilter):
    title = _("model asked for")
    column = parameter_name = "model"
    empty = _("none")


class TokenFilter(RecentValueFilter):
    title = _("token")
    column = parameter_name = "token"
    empty = _("none")


class OutcomeFilter(Filter):
    title = _("outcome")
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [*RequestLog.Outcome.choices, (ANY_FAULT, _("any error"))]

    def queryset(self, request: HttpRequest, queryset: Calls) -> Calls:
        chosen = self.value()
        if chosen is None or chosen not in dict(self.lookup_choices):
            return queryset
        if chosen == RequestLog.Outcome.ANSWERED:
            return queryset.filter(outcome=chosen)
        outcomes = sorted(ERRORS) if chosen == ANY_FAULT else [chosen]
        # What goes without saying is said as the index of the few says it, which then is used.
        few = queryset.exclude(outcome=RequestLog.Outcome.ANSWERED)
        return few.filter(outcome__in=outcomes)


class FallbackFilter(Filter):
    title = _("fallback")
    parameter_name = "fell_back"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("1", _("fell back")), ("0", _("first provider"))]

    def queryset(self, request: HttpRequest, queryset: Calls) -> Calls:
        fell_back = {"1": True, "0": False}.get(self.value() or "")
        return queryset if fell_back is None else queryset.filter(fell_back=fell_back)


class SessionFilter(Filter):
    """One conversation; there is nothing to choose from, links lead here."""

    title = _("session")
    parameter_name = "session"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        chosen = self.value()
        return [(chosen, chosen)] if chosen else []

    def queryset(self, request: HttpRequest, queryset: Calls) -> Calls:
        chosen = self.value()
        return queryset.filter(session_id=chosen) if chosen else queryset


class TimeFilter(Filter):
    """The last so many hours, or a period: `<from>-<to>` in epoch seconds, as charts link to it."""

    title = _("time")
    parameter_name = "since"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterator[tuple[str, Any]]:
        yield "1", _("last hour")
        yield "24", _("last 24 hours")
        yield "168", _("last 7 days")
        yield "720", _("last 30 days")
        if (period := self._period()) is not None:
            yield self.value() or "", f"{_minute(period[0])} – {_minute(period[1])}"

    def queryset(self, request: HttpRequest, queryset: Calls) -> Calls:
        if (period := self._period()) is not None:
            return queryset.filter(time__gte=period[0], time__lt=period[1])
        hours = self.value()
        if hours is None or hours not in dict(self.lookup_choices):
            return queryset
        return queryset.filter(time__gte=timezone.now() - datetime.timedelta(hours=int(hours)))

    def _period(self) -> tuple[datetime.datetime, datetime.datetime] | None:
        found = _PERIOD.fullmatch(self.value() or "")
        if found is None:
            return None
        begin, end = (datetime.datetime.fromtimestamp(int(n), datetime.UTC) for n in found.groups())
        return begin, end


_PERIOD = re.compile(r"([0-9]{1,11})-([0-9]{1,11})")


def _minute(moment: datetime.datetime) -> str:
    return f"{timezone.localtime(moment):%Y-%m-%d %H:%M}"


class PathFilter(Filter):
    title = _("kind")
    parameter_name = "kind"
    paths = {"messages": MESSAGES, "count": COUNT_TOKENS}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("messages", _("messages")),
            ("count", _("token counts")),
            ("other", _("other")),
        ]

    def queryset(self, request: HttpRequest, queryset: Calls) -> Calls:
        if self.value() == "other":
            # One by one, as the index of these says it: else SQLite would not use it.
            return queryset.exclude(path=MESSAGES).exclude(path=COUNT_TOKENS)
        path = self.paths.get(self.value() or "")
        return queryset.filter(path=path) if path else queryset


FILTERS = (
    SessionFilter,
    TimeFilter,
    ProviderFilter,
    OutcomeFilter,
    FallbackFilter,
    ModelFilter,
    TokenFilter,
    PathFilter,
)
"""In the order in which they are offered."""
