"""Adding a provider begins with what it is; that fills in the form."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _

from providers.models import Provider
from providers.presets import BY_SLUG, GROUPS, PRESETS, Preset


class BeginsWithPreset(admin.ModelAdmin):  # type: ignore[type-arg]
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """First the choice of a preset, then the form, filled with it."""
        if request.method == "GET" and "preset" not in request.GET:
            if not self.has_add_permission(request):
                raise PermissionDenied
            return self._choose_preset(request)
        preset = preset_of(request)
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
        preset = preset_of(request)
        if preset is None:
            return {}
        # A name that is taken would only be an error on saving.
        taken = Provider.objects.filter(name=preset.slug).exists()
        return {**preset.form_values, "name": f"{preset.slug}-2" if taken else preset.slug}

    def get_form(
        self, request: HttpRequest, obj: Provider | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        preset = preset_of(request) if obj is None else None
        form.stand_in_key = preset.api_key if preset else ""
        return form

    def get_formset_kwargs(
        self, request: HttpRequest, obj: Provider, inline: Any, prefix: str
    ) -> dict[str, Any]:
        kwargs: dict[str, Any] = super().get_formset_kwargs(request, obj, inline, prefix)
        preset = preset_of(request)
        if preset is not None and request.method == "GET" and obj.pk is None:
            kwargs["initial"] = [{"source": s, "target": t} for s, t in preset.mappings]
        return kwargs


def preset_of(request: HttpRequest) -> Preset | None:
    """What was chosen; None for something else."""
    return BY_SLUG.get(request.GET.get("preset", ""))
