"""Providers are put in order by dragging or by buttons, and the next call hears of it.

django-admin-sortable2 brings the handle and the script; its own way of saving
tells neither the workers nor the admin's log.
"""

from __future__ import annotations

import json
from typing import Any

from adminsortable2.admin import SortableAdminMixin
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBadRequest,
    HttpResponseForbidden,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from providers.models import Provider, save_order

_MOVES = (
    ("up", _("Move %(name)s up"), "↑"),
    ("down", _("Move %(name)s down"), "↓"),
)
_STEPS = {"up": -1, "down": 1}


class DragToOrder(SortableAdminMixin):  # type: ignore[misc]
    def get_list_display(self, request: HttpRequest) -> Any:
        columns = list(super().get_list_display(request))
        if not self.has_change_permission(request):
            columns.remove("_reorder_")
            columns.remove("move")
        return columns

    def get_urls(self) -> list[URLPattern]:
        move = self.admin_site.admin_view(self.move_view)
        url = path("<int:key>/move/<str:direction>/", move, name="providers_provider_move")
        return [url, *super().get_urls()]

    @admin.display(description=_("move"))
    def move(self, provider: Provider) -> SafeString:
        """Buttons for those who do not drag. They post the form that is around the list."""
        buttons = [
            format_html(
                '<button type="submit" class="ccf-move" id="{}-{}" formaction="{}" '
                'aria-label="{}" title="{}">{}</button>',
                direction,
                provider.pk,
                reverse("admin:providers_provider_move", args=[provider.pk, direction]),
                label % {"name": provider.name},
                label % {"name": provider.name},
                arrow,
            )
            for direction, label, arrow in _MOVES
        ]
        return format_html('<span class="ccf-moves">{}{}</span>', *buttons)

    def move_view(self, request: HttpRequest, key: int, direction: str) -> HttpResponse:
        """One place up or down."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_change_permission(request):
            raise PermissionDenied
        keys = list(Provider.objects.values_list("pk", flat=True))
        if key in keys and direction in _STEPS:
            place = keys.index(key)
            other = place + _STEPS[direction]
            if 0 <= other < len(keys):
                first, second = sorted((place, other))
                self._reorder(request, [keys[second], keys[first]])
        # Back to the button, so that the next press moves it on.
        return HttpResponseRedirect(
            f"{reverse('admin:providers_provider_changelist')}#{direction}-{key}"
        )

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> Any:
        """Without the mixin's actions that move rows between pages: there is one page.

        `action_location` is given by Django 6.1 and newer.
        """
        where = {} if action_location is None else {"action_location": action_location}
        return super(SortableAdminMixin, self).get_actions(request, **where)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        explained = (
            _("Asked from top to bottom until one answers. Drag or move them into another order.")
            if self.has_change_permission(request)
            else _("Asked from top to bottom until one answers.")
        )
        context = {"title": _("Providers"), "subtitle": explained, **(extra_context or {})}
        response: HttpResponse = super().changelist_view(request, context)
        return response

    def update_order(self, request: HttpRequest) -> HttpResponse:
        """A row was dragged: `{"updatedItems": [[key, place], ...]}` with every row that moved."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_change_permission(request):
            return HttpResponseForbidden()
        try:
            items = json.loads(request.body)["updatedItems"]
            places = {int(key): int(place) for key, place in items}
        except (ValueError, TypeError, LookupError, OverflowError):
            return HttpResponseBadRequest("A list of keys and places is needed.")
        changed = self._reorder(request, sorted(places, key=places.__getitem__))
        return HttpResponse(f"{changed} moved")

    def _reorder(self, request: HttpRequest, moved: list[int]) -> int:
        """Let the providers `moved` share their places anew, in this order; how many changed."""
        with transaction.atomic():
            providers = {provider.pk: provider for provider in Provider.objects.all()}
            before = list(providers)
            arriving = iter([key for key in moved if key in providers])
            after = [next(arriving) if key in moved else key for key in before]
            changed = [key for old, key in zip(before, after, strict=True) if old != key]
            if changed:
                save_order(after)
            for key in changed:
                places = {"old": before.index(key) + 1, "new": after.index(key) + 1}
                message = gettext("Moved from place %(old)d to %(new)d.") % places
                self.log_change(request, providers[key], message)
        return len(changed)
