"""The pages and the search of the request history, made for a table of millions.

Nothing is counted: a page asks for one row more than it shows, and so knows
whether there is an older one.
"""

from __future__ import annotations

from typing import Any

from django.contrib.admin.views.main import PAGE_VAR, SEARCH_VAR, ChangeList
from django.core.paginator import Paginator
from django.db import connections
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from proxy.admin.history_filters import FILTERS, SessionFilter
from proxy.models import RequestLog

FORM_FIELDS = (SEARCH_VAR, *(filter_.parameter_name for filter_ in FILTERS))

LAST_PAGE = 1_000_000
"""Beyond this an offset is a mistake, and would not fit the database's integers much later."""


class HistoryPage(ChangeList):
    """One page of calls, without the number of all."""

    newer: str | None
    """The query string of the page with newer calls, None on the first one."""

    older: str | None
    """The query string of the page with older calls, None on the last one."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[RequestLog]) -> list[Any]:
        """A single conversation is read from its beginning, everything else from the newest."""
        one_session = request.GET.get(SessionFilter.parameter_name)
        return ["time", "pk"] if one_session else ["-time", "-pk"]

    def get_results(self, request: HttpRequest) -> None:
        size = self.list_per_page
        page = self.page_num = min(max(self.page_num, 1), LAST_PAGE)
        first = (page - 1) * size
        rows = list(self.queryset.prefetch_related("attempts")[first : first + size + 1])
        self.result_list = rows[:size]
        self.newer = self.get_query_string({PAGE_VAR: page - 1}) if page > 1 else None
        self.older = self.get_query_string({PAGE_VAR: page + 1}) if len(rows) > size else None
        # What Django's own templates read, for exactly this page.
        self.paginator = Paginator(self.result_list, size)
        self.result_count = self.full_result_count = len(self.result_list)
        self.show_full_result_count = self.show_admin_actions = False
        self.can_show_all = self.multi_page = False


def without_empty_choices(request: HttpRequest) -> str | None:
    """The address without what a form sends for nothing chosen; None where there is no such."""
    chosen = request.GET.copy()
    for name in FORM_FIELDS:
        if chosen.get(name) == "":
            del chosen[name]
    if len(chosen) == len(request.GET):
        return None
    return f"{request.path}?{chosen.urlencode()}" if chosen else request.path


def search(queryset: QuerySet[RequestLog], text: str) -> QuerySet[RequestLog]:
    """The calls whose request id or session id begins with `text`, found by the indexes.

    The keys are looked up first, apart for each column: an OR, or the order by
    key, would tempt a database into reading the whole table backwards.
    """
    found = [
        RequestLog.objects.filter(_prefix(queryset.db, field, text)).order_by().values("pk")
        for field in ("request_id", "session_id")
    ]
    return queryset.filter(pk__in=found[0].union(found[1], all=True))


def _prefix(alias: str, field: str, text: str) -> Q:
    if connections[alias].vendor != "sqlite":
        return Q(**{f"{field}__startswith": text})
    # SQLite's LIKE ignores case and cannot use the index; its order is that of the bytes.
    return Q(**{f"{field}__gte": text, f"{field}__lt": text + "\U0010ffff"})
