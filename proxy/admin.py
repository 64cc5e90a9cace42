"""Django admin of the request history: read-only."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from proxy.history_filters import ModelFilter, PathFilter, ProviderFilter, TimeFilter, TokenFilter
from proxy.history_pages import HistoryPage, search
from proxy.models import Attempt, RequestLog

NOTHING = "–"
_OUTCOME_STYLES = {
    RequestLog.Outcome.ANSWERED: "ccf-good",
    RequestLog.Outcome.FAILED: "ccf-bad",
    RequestLog.Outcome.REFUSED: "ccf-warn",
    RequestLog.Outcome.BROKEN: "ccf-bad",
    RequestLog.Outcome.CANCELLED: "ccf-quiet",
}


class ReadOnly(admin.options.BaseModelAdmin):  # type: ignore[type-arg]
    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class AttemptInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]
    model = Attempt
    fields = (
        "number",
        "provider",
        "model",
        "kind",
        "result",
        "error_type",
        "error_message",
        "started_ms",
        "duration_ms",
    )
    extra = 0
    can_delete = False


@admin.register(RequestLog)
class RequestLogAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    inlines = (AttemptInline,)
    list_display = (
        "moment",
        "model",
        "answered_by",
        "trail",
        "status",
        "result",
        "first_byte",
        "duration",
        "tokens",
        "token",
        "session",
    )
    list_filter = (
        TimeFilter,
        ProviderFilter,
        "outcome",
        "fell_back",
        ModelFilter,
        TokenFilter,
        PathFilter,
    )
    list_per_page = 100
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    search_fields = ("request_id", "session_id")
    search_help_text = _("A request id or a session id, or how it begins.")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "exact_moment",
                    "request_id",
                    "path",
                    "model",
                    "answered_by",
                    "model_sent",
                    "trail",
                    "status",
                    "result",
                    "error",
                )
            },
        ),
        (_("Client"), {"fields": ("token", "whole_session", "agent_id", "stream")}),
        (
            _("Time and size"),
            {"fields": ("first_byte_ms", "duration_ms", "bytes_in", "bytes_out")},
        ),
        (
            _("Tokens"),
            {
                "fields": (
                    "input_tokens",
                    "cache_read_tokens",
                    "cache_creation_tokens",
                    "output_tokens",
                    "counted_by",
                    "dropped",
                )
            },
        ),
    )

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
        context = {"title": _("Request history"), **(extra_context or {})}
        return super().changelist_view(request, context)

    @admin.display(description=_("time"))
    def moment(self, call: RequestLog) -> str:
        time = timezone.localtime(call.time)
        day, second = f"{time:%Y-%m-%d}", f"{time:%H:%M:%S}"
        return format_html('<span class="ccf-step">{}</span> {}', day, second)

    @admin.display(description=_("time"))
    def exact_moment(self, call: RequestLog) -> str:
        return timezone.localtime(call.time).isoformat(sep=" ", timespec="milliseconds")

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
        arrow = format_html(' <span class="ccf-quiet">{}</span> ', "->")
        return format_html_join(arrow, '<span class="ccf-step">{} {}</span>', shown)

    @admin.display(description=_("outcome"))
    def result(self, call: RequestLog) -> str:
        style = _OUTCOME_STYLES.get(RequestLog.Outcome(call.outcome), "")
        return format_html('<span class="{}">{}</span>', style, call.get_outcome_display())

    @admin.display(description=_("first byte ms"))
    def first_byte(self, call: RequestLog) -> str:
        return _figure(call.first_byte_ms)

    @admin.display(description=_("duration ms"))
    def duration(self, call: RequestLog) -> str:
        return _figure(call.duration_ms)

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

    @admin.display(description=_("session"))
    def whole_session(self, call: RequestLog) -> str:
        return _session_link(call.session_id, call.session_id) if call.session_id else NOTHING

    @admin.display(description=_("counted by"))
    def counted_by(self, call: RequestLog) -> str:
        return (
            gettext("this proxy: an estimate") if call.usage_estimated else gettext("the provider")
        )


def _session_link(session: str, text: str) -> str:
    """To all the calls of a session."""
    url = reverse("admin:proxy_requestlog_changelist", query={"q": session})
    return format_html('<a href="{}" title="{}">{}</a>', url, session, text)


def _figure(number: int | None) -> str:
    return NOTHING if number is None else f"{number:,}"
