"""Django admin of the configuration: providers, client tokens, settings."""

from __future__ import annotations

import time
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from providers import facts_admin as facts_admin
from providers import masks
from providers.badges import countdown, return_line, state_badge
from providers.client_setup import snippets
from providers.conditions import ProviderCondition, conditions_of
from providers.fields import Undecryptable
from providers.forms import MappingFormSet, ProviderForm
from providers.health_actions import HEALTH_ACTIONS
from providers.models import AccessToken, ModelMapping, Provider
from providers.ordering import DragToOrder
from providers.phrases import span
from providers.presets import BY_SLUG, GROUPS, PRESETS


@admin.action(description=_("Enable"), permissions=["change"])
def enable(
    modeladmin: admin.ModelAdmin[Any], request: HttpRequest, queryset: QuerySet[Any]
) -> None:
    _switch(modeladmin, request, queryset, on=True)


@admin.action(description=_("Disable"), permissions=["change"])
def disable(
    modeladmin: admin.ModelAdmin[Any], request: HttpRequest, queryset: QuerySet[Any]
) -> None:
    _switch(modeladmin, request, queryset, on=False)


def _switch(
    modeladmin: admin.ModelAdmin[Any], request: HttpRequest, queryset: QuerySet[Any], *, on: bool
) -> None:
    """Row by row, not by one UPDATE: `save` is what tells the workers."""
    with transaction.atomic():
        rows = list(queryset.filter(enabled=not on))
        for row in rows:
            row.enabled = on
            row.save(update_fields=["enabled"])
            modeladmin.log_change(request, row, gettext("Enabled.") if on else gettext("Disabled."))
    text = (
        ngettext("%d was enabled.", "%d were enabled.", len(rows))
        if on
        else ngettext("%d was disabled.", "%d were disabled.", len(rows))
    )
    modeladmin.message_user(request, text % len(rows), messages.SUCCESS)


class MappingInline(admin.TabularInline):  # type: ignore[type-arg]
    model = ModelMapping
    formset = MappingFormSet
    fields = ("source", "target")
    verbose_name = _("mapping")
    verbose_name_plural = _("Model mapping")

    def get_extra(self, request: HttpRequest, obj: Provider | None = None, **kwargs: Any) -> int:
        preset = BY_SLUG.get(request.GET.get("preset", "")) if obj is None else None
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
class ProviderAdmin(DragToOrder, admin.ModelAdmin):  # type: ignore[type-arg]
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
    actions: list[Any] = [
        enable,
        disable,
        *HEALTH_ACTIONS,
    ]  # and what can ask a provider adds its own

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

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """First the choice of a preset, then the form, filled with it."""
        if request.method == "GET" and "preset" not in request.GET:
            if not self.has_add_permission(request):
                raise PermissionDenied
            return self._choose_preset(request)
        preset = BY_SLUG.get(request.GET.get("preset", ""))
        title = _("Add %s") % preset.label if preset else _("Add a provider")
        context = {"title": title, "preset": preset, **(extra_context or {})}
        return super().add_view(request, form_url, context)

    def _choose_preset(self, request: HttpRequest) -> HttpResponse:
        by_group = {group: [p for p in PRESETS if p.group is group] for group in GROUPS}
        context = {
            **self.admin_site.each_context(request),
            "title": _("Add a provider"),
            "subtitle": _("What it is fills in the rest; everything can be changed afterwards."),
            "opts": self.opts,
            "groups": by_group.items(),
        }
        return TemplateResponse(request, "providers/choose_preset.html", context)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        preset = BY_SLUG.get(request.GET.get("preset", ""))
        if preset is None:
            return {}
        # A name that is taken would only be an error on saving.
        taken = Provider.objects.filter(name=preset.slug).exists()
        return {**preset.form_values, "name": f"{preset.slug}-2" if taken else preset.slug}

    def get_form(
        self, request: HttpRequest, obj: Provider | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        preset = BY_SLUG.get(request.GET.get("preset", "")) if obj is None else None
        form.stand_in_key = preset.api_key if preset else ""
        return form

    def get_formset_kwargs(
        self, request: HttpRequest, obj: Provider, inline: Any, prefix: str
    ) -> dict[str, Any]:
        kwargs: dict[str, Any] = super().get_formset_kwargs(request, obj, inline, prefix)
        preset = BY_SLUG.get(request.GET.get("preset", ""))
        if preset is not None and request.method == "GET" and obj.pk is None:
            kwargs["initial"] = [{"source": s, "target": t} for s, t in preset.mappings]
        return kwargs

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


@admin.register(AccessToken)
class AccessTokenAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("note", "ends_in", "enabled", "created_at")
    actions = (enable, disable)

    def get_fields(self, request: HttpRequest, obj: AccessToken | None = None) -> Any:
        return ("note", "enabled", "ends_in", "created_at") if obj else ("note",)

    def get_readonly_fields(self, request: HttpRequest, obj: AccessToken | None = None) -> Any:
        return ("ends_in", "created_at") if obj else ()

    @admin.display(description=_("ends in"))
    def ends_in(self, token: AccessToken) -> str:
        return format_html("<code>…{}</code>", token.hint)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        buttons = {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().add_view(request, form_url, {**(extra_context or {}), **buttons})

    def save_model(self, request: HttpRequest, obj: AccessToken, form: Any, change: bool) -> None:
        if not change:
            obj.generate()
        super().save_model(request, obj, form, change)

    def response_add(
        self, request: HttpRequest, obj: AccessToken, post_url_continue: str | None = None
    ) -> HttpResponse:
        """The token, once. Not after a redirect: it would have to wait in a session or a cookie."""
        context = {
            **self.admin_site.each_context(request),
            "title": _("New client token"),
            "opts": self.opts,
            "note": obj.note,
            "token": obj.plain,
            "snippets": snippets(f"{request.scheme}://{request.get_host()}", obj.plain),
        }
        return TemplateResponse(request, "providers/token_issued.html", context)
