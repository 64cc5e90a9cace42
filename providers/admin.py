"""Django admin of the configuration: providers, client tokens, settings."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Count, Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from providers import facts_admin as facts_admin
from providers import masks
from providers.connecting import snippets
from providers.fields import Undecryptable
from providers.forms import MappingFormSet, ProviderForm
from providers.models import AccessToken, ModelMapping, Provider, ProxySettings
from providers.ordering import DragToOrder

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
    extra = 0
    fields = ("source", "target")
    verbose_name = _("mapping")
    verbose_name_plural = _("Model mapping")


_WHO = (
    _("Who"),
    {
        "fields": ("name", "enabled", "base_url", "format"),
        "description": _("Who answers, where, and in which API it is asked."),
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
        "enabled",
        "credentials_shown",
        "format",
        "base_url",
        "mapping_count",
    )
    list_display_links = ("name",)
    ordering = ("position", "pk")
    list_per_page = 200
    sortable_by = ()
    readonly_fields = ("stored_key", "header_names")
    actions = (enable, disable)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        queryset: QuerySet[Provider] = super().get_queryset(request)
        return queryset.annotate(mapping_count=Count("mappings"))

    def get_fieldsets(self, request: HttpRequest, obj: Provider | None = None) -> Any:
        if obj is None:
            return (_WHO, _ADDED, _RETRIES, _DIALECT)
        # Whoever may only look gets every field as plain text: no secret may be among them.
        may_edit = self.has_change_permission(request, obj)
        return (_WHO, _EDITED if may_edit else _VIEWED, _RETRIES, _DIALECT)

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


@admin.register(ProxySettings)
class ProxySettingsAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """One row: the list is its form."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:providers_proxysettings_change", args=[1]))

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> ProxySettings | None:
        # The defaults are shown before anything is saved; looking does not write.
        return ProxySettings.load() if object_id == "1" else None
