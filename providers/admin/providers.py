"""Providers in the admin."""

from __future__ import annotations

import time
from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from providers.admin import masks
from providers.admin.badges import countdown, return_line, state_badge
from providers.admin.forms import MappingFormSet, ProviderForm
from providers.admin.health_actions import HEALTH_ACTIONS
from providers.admin.ordering import DragToOrder
from providers.admin.phrases import span
from providers.admin.preset_form import BeginsWithPreset, preset_of
from providers.admin.switches import disable, enable
from providers.conditions import ProviderCondition, conditions_of
from providers.fields import Undecryptable
from providers.models import ModelMapping, Provider


class MappingInline(admin.TabularInline):  # type: ignore[type-arg]
    model = ModelMapping
    formset = MappingFormSet
    fields = ("source", "target")
    verbose_name = _("mapping")
    verbose_name_plural = _("Model mapping")

    def get_extra(self, request: HttpRequest, obj: Provider | None = None, **kwargs: Any) -> int:
        preset = preset_of(request) if obj is None else None
        return len(preset.mappings) if preset else 0


_WHO: tuple[Any, dict[str, Any]] = (
    _("Who"),
    {
        "fields": ("name", "enabled", "base_url", "format"),
        "description": _("Who answers, where, and in which API it is asked."),
    },
)
_LIMITS = (
    _("What it can take"),
    {
        "fields": ("context_window", "max_output_tokens"),
        "classes": ("collapse",),
        "description": _("Empty means unknown: nothing is held back and nothing is lowered."),
    },
)
_RETRIES = (
    _("Retries and time limits"),
    {
        "fields": (
            # One a line: Django does not open a collapsed group for an error inside a pair.
            "retries",
            "retry_first",
            "connect_limit",
            "first_byte_stream_limit",
            "first_byte_limit",
            "idle_limit",
        ),
        "classes": ("collapse",),
        "description": _(
            "When an attempt has failed, and how often it is repeated. "
            "A healthy stream may take as long as it likes."
        ),
    },
)
_DIALECT = (
    _("Dialect profile"),
    {
        "fields": ("profile",),
        "classes": ("collapse",),
        "description": _("What this provider does differently from others of its wire format."),
    },
)


def _credentials(*fields: str) -> Any:
    text = _(
        "What it is called with. With the client's own credentials, whatever Claude Code sent is "
        "passed on; with a key, the client's credentials never leave this proxy."
    )
    return (_("Credentials"), {"fields": fields, "description": text})


_REST = ("auth_header", "extra_headers", "on_client_401")
_ADDED = _credentials("credentials", "api_key", *_REST)
_EDITED = _credentials("credentials", "stored_key", "api_key", "remove_key", *_REST)
_VIEWED = _credentials("credentials", "stored_key", "auth_header", "header_names", "on_client_401")


@admin.register(Provider)
class ProviderAdmin(DragToOrder, BeginsWithPreset):
    form = ProviderForm
    inlines = (MappingInline,)
    change_form_template = "providers/provider_form.html"
    list_display = (
        "position",
        "name",
        "state",
        "credentials_shown",
        "format",
        "base_url",
        "mapping_count",
        "move",
    )
    list_display_links = ("name",)
    ordering = ("position", "pk")
    list_per_page = 200
    sortable_by = ()
    readonly_fields = ("stored_key", "header_names", "health_now")
    # What can ask a provider adds an action of its own.
    actions: list[Any] = [enable, disable, *HEALTH_ACTIONS]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        queryset: QuerySet[Provider] = super().get_queryset(request)
        return queryset.annotate(mapping_count=Count("mappings"))

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The page, each of its rows with its condition."""
        page = super().get_changelist_instance(request)
        page.result_list = list(page.result_list)
        conditions = conditions_of(page.result_list, time.time())
        for provider, condition in zip(page.result_list, conditions, strict=True):
            provider.condition = condition
        return page

    def get_fieldsets(self, request: HttpRequest, obj: Provider | None = None) -> Any:
        if obj is None:
            return (_WHO, _ADDED, _LIMITS, _RETRIES, _DIALECT)
        # Whoever may only look gets every field as plain text: no secret may be among them.
        may_edit = self.has_change_permission(request, obj)
        who = (_WHO[0], {**_WHO[1], "fields": ("health_now", *_WHO[1]["fields"])})
        return (who, _EDITED if may_edit else _VIEWED, _LIMITS, _RETRIES, _DIALECT)

    @admin.display(description=_("state"))
    def state(self, provider: Any) -> str:
        now = time.time()
        condition: ProviderCondition = provider.condition
        badge, until = state_badge(condition), return_line(condition, now)
        if not until or condition.until is None:
            return badge
        left = countdown(condition.until, now)
        return format_html('{} {} <span class="ccf-until">{}</span>', badge, left, until)

    @admin.display(description=_("state"))
    def health_now(self, provider: Provider) -> str:
        now = time.time()
        [condition] = conditions_of([provider], now)
        parts = [state_badge(condition), return_line(condition, now)]
        if condition.last_success is not None:
            ago = span(now - condition.last_success)
            parts.append(_("last success %s ago") % ago)
        if condition.last_failure is not None:
            ago = span(now - condition.last_failure)
            parts.append(_("last failure %s ago") % ago)
            parts.append(condition.last_error)
        return format_html_join(" · ", "{}", [(part,) for part in parts if part])

    @admin.display(description=_("mappings"))
    def mapping_count(self, provider: Any) -> int:
        return int(provider.mapping_count)

    @admin.display(description=_("credentials"))
    def credentials_shown(self, provider: Provider) -> str:
        if any(isinstance(v, Undecryptable) for v in (provider.api_key, provider.extra_headers)):
            return format_html('<span class="ccf-bad">{}</span>', _("cannot be decrypted"))
        if provider.credentials == Provider.Credentials.CLIENT:
            return provider.get_credentials_display()
        if provider.api_key:
            return format_html("{} <code>{}</code>", _("key"), masks.key_hint(provider.api_key))
        return gettext("headers only")

    @admin.display(description=_("stored key"))
    def stored_key(self, provider: Provider) -> str:
        if isinstance(provider.api_key, Undecryptable):
            return format_html('<strong class="ccf-bad">{}</strong>', _UNDECRYPTABLE_KEY)
        if not provider.api_key:
            return gettext("none")
        hint = format_html("<code>{}</code>", masks.key_hint(provider.api_key))
        return format_html(gettext("{} is stored"), hint)

    @admin.display(description=_("extra headers"))
    def header_names(self, provider: Provider) -> str:
        return format_html("<pre>{}</pre>", masks.masked(provider.extra_headers))


_UNDECRYPTABLE_KEY = _(
    "A key is stored, but it cannot be decrypted with ENCRYPTION_KEY. This provider is not asked "
    "until the key has been entered again (or the old ENCRYPTION_KEY is back)."
)
