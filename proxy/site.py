"""The admin site: its front page, its navigation, and the pages that belong to no model.

Pages are imported when they are opened: Django sets this site up for the first model that
registers itself, while the modules behind the pages are still on their way in.
"""

from __future__ import annotations

import time
from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.translation import gettext_lazy as _

from providers.client_setup import snippets

NAVIGATION = (
    ("index", _("Overview"), None),
    ("proxy_requestlog_changelist", _("History"), "proxy.view_requestlog"),
    ("providers_provider_changelist", _("Providers"), "providers.view_provider"),
    ("connect", _("Connect a client"), None),
    ("providers_accesstoken_changelist", _("Tokens"), "providers.view_accesstoken"),
    ("providers_learnedfact_changelist", _("Learned"), "providers.view_learnedfact"),
    ("providers_proxysettings_changelist", _("Settings"), "providers.view_proxysettings"),
)
"""Names of pages, what they are called, and who sees them."""


class ProxySite(AdminSite):
    site_header = site_title = _("Fallback proxy")
    site_url = None  # "/" leads back here
    index_title = _("Overview")
    index_template = "proxy/dashboard.html"
    enable_nav_sidebar = False

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return {**super().each_context(request), "navigation": navigation(request)}

    def get_urls(self) -> list[URLPattern | URLResolver]:
        pages: list[URLPattern | URLResolver] = [
            path("connect/", self.admin_view(self.connect), name="connect"),
            path("transfer/", self.admin_view(self.transfer), name="transfer"),
            path("test/", self.admin_view(self.test_connection), name="test_new_connection"),
            path("test/<int:key>/", self.admin_view(self.test_connection), name="test_connection"),
        ]
        return pages + super().get_urls()

    def transfer(self, request: HttpRequest) -> HttpResponse:
        from providers.admin.transfer import transfer_view

        return transfer_view(self, request)

    def test_connection(self, request: HttpRequest, key: int | None = None) -> HttpResponse:
        from proxy.admin.connection_views import form_view

        return form_view(self, request, key)

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        from proxy.admin.dashboard import dashboard

        context = {**dashboard(request, time.time()), "others": self.others(request)}
        return super().index(request, {**context, **(extra_context or {})})

    def others(self, request: HttpRequest) -> list[tuple[str, Any]]:
        """(address, name) of what this user may see and the navigation does not lead to."""
        known = {url for url, _label, _current in navigation(request)}
        models = [model for app in self.get_app_list(request) for model in app["models"]]
        urls = [(model["admin_url"], model["name"]) for model in models if model["admin_url"]]
        return [(url, name) for url, name in urls if url not in known]

    def connect(self, request: HttpRequest) -> TemplateResponse:
        """The lines to paste, with a placeholder for the token."""
        own_login = request.GET.get("login") != "proxy"
        context = {
            **self.each_context(request),
            "title": _("Connect a client"),
            "own_login": own_login,
            "snippets": snippets(base_url_of(request), own_login=own_login),
            "may_issue": request.user.has_perm("providers.add_accesstoken"),
        }
        return TemplateResponse(request, "providers/connect.html", context)


def navigation(request: HttpRequest) -> list[tuple[str, Any, bool]]:
    """(address, label, whether it is this page) of the pages that this user may open."""
    if not request.user.is_active or not request.user.is_staff:
        return []
    pages = [
        (reverse(f"admin:{name}"), label)
        for name, label, permission in NAVIGATION
        if permission is None or request.user.has_perm(permission)
    ]
    home = reverse("admin:index")
    return [
        (url, label, request.path == url or (url != home and request.path.startswith(url)))
        for url, label in pages
    ]


def base_url_of(request: HttpRequest) -> str:
    """Where clients reach this proxy: where this browser has reached it."""
    return f"{request.scheme}://{request.get_host()}"
