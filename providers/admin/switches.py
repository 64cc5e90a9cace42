"""Enable and disable: actions on whatever can be switched off."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _


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
