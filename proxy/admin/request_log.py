"""Django admin of the request history: read-only."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from django.contrib import admin
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBadRequest,
    HttpResponseRedirect,
)
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext_lazy as _

from providers.admin.phrases import milliseconds
from providers.admin.providers import ProviderAdmin
from proxy.admin.call_page import call_page
from proxy.admin.connection_views import test_connection
from proxy.admin.csv_export import csv_response
from proxy.admin.history_filters import FILTERS
from proxy.admin.history_links import history_link
from proxy.admin.history_pages import HistoryPage, search, without_empty_choices
from proxy.models import RequestLog

ProviderAdmin.actions.append(test_connection)  # only here is known how to ask a provider

NOTHING = "–"
_OUTCOME_STYLES = {
    RequestLog.Outcome.ANSWERED: "ccf-good",
    RequestLog.Outcome.FAILED: "ccf-bad",
    RequestLog.Outcome.REFUSED: "ccf-warn",
    RequestLog.Outcome.BROKEN: "ccf-bad",
    RequestLog.Outcome.CANCELLED: "ccf-quiet",
    RequestLog.Outcome.STOPPED: "ccf-warn",
}


class ReadOnly(admin.options.BaseModelAdmin):  # type: ignore[type-arg]
    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(RequestLog)
class RequestLogAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = (
        "moment",
        "model",
        "answered_by",
        "trail",
        "result",
        "first_byte",
        "duration",
        "tokens",
        "token",
        "session",
    )
    list_filter = FILTERS
    list_per_page = 100
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    search_fields = ("request_id", "session_id")
    search_help_text = _("A request id or a session id, or how it begins.")
    fields = ("request_id",)  # the page has a template of its own

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.export_view)
        return [path("export/", view, name="proxy_requestlog_export"), *super().get_urls()]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[HistoryPage]:
        return HistoryPage

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[RequestLog], search_term: str
    ) -> tuple[QuerySet[RequestLog], bool]:
        text = search_term.strip()
        return (search(queryset, text) if text else queryset), False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if (tidy := without_empty_choices(request)) is not None:
            return HttpResponseRedirect(tidy)
        query = request.GET.urlencode()
        export = reverse("admin:proxy_requestlog_export") + (f"?{query}" if query else "")
        context = {"title": _("Request history"), "export_url": export, **(extra_context or {})}
        return super().changelist_view(request, context)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        call = self.get_object(request, unquote(object_id))
        if request.method == "POST" or not (call and self.has_view_permission(request, call)):
            return super().change_view(request, object_id, form_url, extra_context)
        base_url = f"{request.scheme}://{request.get_host()}"
        seen = request.user.has_perm("providers.view_provider")
        context = {
            **self.admin_site.each_context(request),
            "title": _("Call"),
            "subtitle": call.request_id,
            "opts": self.opts,
            "call": call,
            "page": call_page(call, base_url, with_providers=seen),
        }
        return TemplateResponse(request, "proxy/call.html", context)

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """The calls that the list would show, all of them."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            calls = self.get_changelist_instance(request).queryset
        except (IncorrectLookupParameters, DisallowedModelAdminLookup):
            return HttpResponseBadRequest("These are no filters of the history.")
        return csv_response(request, calls)

    @admin.display(description=_("time"))
    def moment(self, call: RequestLog) -> str:
        """When it began; the day is said where it is not today."""
        time = timezone.localtime(call.time)
        today, second = timezone.localdate(), f"{time:%H:%M:%S}"
        if time.date() == today:
            return second
        day = date_format(time, "j M" if time.year == today.year else "j M Y")
        return format_html('<span class="ccf-step">{}</span> {}', day, second)

    @admin.display(description=_("answered by"))
    def answered_by(self, call: RequestLog) -> str:
        if not call.provider:
            return NOTHING
        if not call.fell_back:
            return call.provider
        badge = format_html('<span class="ccf-badge">{}</span>', _("fell back"))
        return format_html("{} {}", call.provider, badge)

    @admin.display(description=_("trail"))
    def trail(self, call: RequestLog) -> str:
        steps = groupby((attempt.provider, attempt.result) for attempt in call.attempts.all())
        shown = [
            (provider, f"{result} ×{count}" if (count := len(list(same))) > 1 else result)
            for (provider, result), same in steps
        ]
        if not shown:
            return NOTHING
        arrow = format_html(' <span class="ccf-step ccf-quiet">{}</span> ', "->")
        return format_html_join(arrow, '<span class="ccf-step">{} {}</span>', shown)

    @admin.display(description=_("outcome"))
    def result(self, call: RequestLog) -> str:
        style = _OUTCOME_STYLES.get(RequestLog.Outcome(call.outcome), "")
        status = "" if call.status in (None, 200) else f" {call.status}"
        return format_html(
            '<span class="{}">{}</span>{}', style, call.get_outcome_display(), status
        )

    @admin.display(description=_("first byte"))
    def first_byte(self, call: RequestLog) -> str:
        return milliseconds(call.first_byte_ms)

    @admin.display(description=_("duration"))
    def duration(self, call: RequestLog) -> str:
        return milliseconds(call.duration_ms)

    @admin.display(description=_("tokens in / cached / out"))
    def tokens(self, call: RequestLog) -> str:
        figures = (call.input_tokens, call.cache_read_tokens, call.output_tokens)
        if figures == (None, None, None):
            return NOTHING
        return ("~" if call.usage_estimated else "") + " / ".join(map(_figure, figures))

    @admin.display(description=_("session"))
    def session(self, call: RequestLog) -> str:
        if not call.session_id:
            return NOTHING
        return _session_link(call.session_id, call.session_id[:8])


def _session_link(session: str, text: str) -> str:
    """To all the calls of a session."""
    url = history_link(session=session)
    return format_html('<a href="{}" title="{}">{}</a>', url, session, text)


def _figure(number: int | None) -> str:
    return NOTHING if number is None else f"{number:,}"
