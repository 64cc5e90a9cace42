"""Learned facts in the admin: to be read, and to be forgotten."""

from __future__ import annotations

import datetime
import json
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from providers.models import ConfigurationVersion, LearnedFact


@admin.action(description=_("Forget"), permissions=["delete"])
def forget(
    modeladmin: admin.ModelAdmin[LearnedFact],
    request: HttpRequest,
    queryset: QuerySet[LearnedFact],
) -> None:
    """Delete facts; every worker hears of it within about a second."""
    with transaction.atomic():
        modeladmin.log_deletions(request, queryset)
        count, _kinds = queryset.delete()
        ConfigurationVersion.bump("knowledge")
    text = ngettext("%d fact was forgotten.", "%d facts were forgotten.", count)
    modeladmin.message_user(request, text % count, messages.SUCCESS)


@admin.register(LearnedFact)
class LearnedFactAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("provider", "model", "key", "value_shown", "repair", "learned_at", "expiry")
    list_display_links = None
    list_select_related = ("provider",)
    list_filter = (("provider", admin.RelatedOnlyFieldListFilter),)
    list_per_page = 100
    sortable_by = ()
    actions = (forget,)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> Any:
        """Without Django's own way to delete: it would tell no worker.

        `action_location` is given by Django 6.1 and newer.
        """
        where = {} if action_location is None else {"action_location": action_location}
        actions = super().get_actions(request, **where)
        actions.pop("delete_selected", None)
        return actions

    def delete_model(self, request: HttpRequest, obj: LearnedFact) -> None:
        super().delete_model(request, obj)
        ConfigurationVersion.bump("knowledge")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        explained = _(
            "What repairs have found out about providers, so that the same refusal does not "
            "come twice. A fact that is forgotten is found out anew when it still holds."
        )
        context = {"title": _("Learned facts"), "subtitle": explained, **(extra_context or {})}
        return super().changelist_view(request, context)

    @admin.display(description=_("value"))
    def value_shown(self, fact: LearnedFact) -> str:
        return format_html("<code>{}</code>", json.dumps(fact.value, ensure_ascii=False)[:200])

    @admin.display(description=_("holds until"), ordering="expires")
    def expiry(self, fact: LearnedFact) -> datetime.datetime:
        return timezone.localtime(datetime.datetime.fromtimestamp(fact.expires, datetime.UTC))
