"""Client tokens in the admin: shown once, with the lines to paste."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from providers.admin.switches import disable, enable
from providers.client_setup import snippets
from providers.models import AccessToken


@admin.register(AccessToken)
class AccessTokenAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("note", "ends_in", "enabled", "created_at")
    actions = (enable, disable)
    sortable_by = ()

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
