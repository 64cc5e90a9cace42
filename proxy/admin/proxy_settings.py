"""The settings in the admin: one row. Here, because the repairs are known here."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from providers.models import ProxySettings
from proxy.rectifiers import REPAIRS, Repair
from proxy.rectifiers.base import ANTHROPIC, OPENAI


def _choices() -> list[tuple[Any, list[tuple[str, str]]]]:
    """Every repair with its label, in groups."""

    def those(formats: frozenset[Any]) -> list[tuple[str, str]]:
        return [(r.name, _label(r)) for r in REPAIRS if r.formats == formats]

    groups = [
        (_("At providers of both formats"), those(ANTHROPIC | OPENAI)),
        (_("At Anthropic-format providers"), those(ANTHROPIC)),
        (_("At OpenAI-format providers"), those(OPENAI)),
    ]
    return [(name, choices) for name, choices in groups if choices]


def _label(repair: Repair) -> str:
    return f"{repair.label} ({repair.name})"


class SettingsForm(forms.ModelForm):  # type: ignore[type-arg]
    enabled_repairs = forms.MultipleChoiceField(
        label=_("Repairs"),
        required=False,
        choices=_choices,
        widget=forms.CheckboxSelectMultiple,
        help_text=_(
            "A provider can make exceptions in its profile, for example "
            '{"repairs": {"the_name": false}}. Repairs that would hide an error from a client '
            "are not made at the client-credential primary unless its profile says so."
        ),
    )

    class Meta:
        model = ProxySettings
        fields = (
            "max_cooldown",
            "probe_interval",
            "patience",
            "call_budget",
            "repairs",
            "retention_days",
            "log_error_messages",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        off = set(self.instance.disabled_repairs)
        self.initial["enabled_repairs"] = [r.name for r in REPAIRS if r.name not in off]

    def save(self, commit: bool = True) -> Any:
        on = set(self.cleaned_data["enabled_repairs"])
        self.instance.disabled_repairs = [r.name for r in REPAIRS if r.name not in on]
        return super().save(commit)


@admin.register(ProxySettings)
class ProxySettingsAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """One row: the list is its form."""

    form = SettingsForm
    change_form_template = "proxy/settings.html"
    fieldsets = (
        (
            _("Falling over and coming back"),
            {"fields": ("max_cooldown", "probe_interval", "patience", "call_budget")},
        ),
        (_("History"), {"fields": ("retention_days", "log_error_messages")}),
        (_("Repairs"), {"fields": ("repairs", "enabled_repairs")}),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_fieldsets(self, request: HttpRequest, obj: ProxySettings | None = None) -> Any:
        if self.has_change_permission(request, obj):
            return self.fieldsets
        # Who may only look sees what is stored, which is what is switched off.
        repairs = (_("Repairs"), {"fields": ("repairs", "disabled_repairs")})
        return (*self.fieldsets[:2], repairs)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:providers_proxysettings_change", args=[1]))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        context = {"title": _("Settings"), "subtitle": None, **(extra_context or {})}
        buttons = {"show_save_and_continue": False}
        return super().change_view(request, object_id, form_url, {**context, **buttons})

    def response_change(self, request: HttpRequest, obj: ProxySettings) -> HttpResponse:
        """Back to the form, not to a list of one row."""
        super().response_change(request, obj)
        return HttpResponseRedirect(reverse("admin:providers_proxysettings_change", args=[1]))

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> ProxySettings | None:
        # The defaults are shown before anything is saved; looking does not write.
        return ProxySettings.load() if object_id == "1" else None
