"""What an operator does about the health of providers: forget it, or send calls elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from providers.avoidance_store import forget_avoided
from providers.health import EventKind, HealthEvent, HealthKey
from providers.health_store import read_rows, write_events
from providers.loading import load_settings
from providers.models import Provider

Action = Callable[..., None]

MINUTE, HOUR = 60.0, 3600.0


@admin.action(
    description=gettext_lazy("Reset health: ask them again at once"), permissions=["change"]
)
def reset_health(
    modeladmin: admin.ModelAdmin[Any], request: HttpRequest, queryset: QuerySet[Provider]
) -> None:
    """Forget failures, cooldowns, limits and streams that died. It reaches all workers at once."""
    providers = list(queryset)
    now = time.time()
    keys = {HealthKey(provider.pk) for provider in providers}
    chosen = {provider.pk for provider in providers}
    keys |= {row.key for row in read_rows() if row.key.provider_id in chosen}
    events = [HealthEvent(key, EventKind.RESET, now) for key in sorted(keys)]
    with transaction.atomic():
        _write(modeladmin, request, providers, events, _("Health reset."), now)
        forget_avoided(list(chosen))
    text = ngettext("%d provider was reset.", "%d providers were reset.", len(providers))
    modeladmin.message_user(request, text % len(providers), messages.SUCCESS)


def _cool_down(seconds: float, name: str, label: Any) -> Action:
    @admin.action(description=label, permissions=["change"])
    def cool_down(
        modeladmin: admin.ModelAdmin[Any], request: HttpRequest, queryset: QuerySet[Provider]
    ) -> None:
        providers = list(queryset)
        now = time.time()
        reason = _("set by %s") % request.user.get_username()
        events = [
            HealthEvent(
                HealthKey(provider.pk), EventKind.COOL_DOWN, now, until=now + seconds, reason=reason
            )
            for provider in providers
        ]
        done = _("Cooled down for %d minutes.") % (seconds / MINUTE)
        _write(modeladmin, request, providers, events, done, now)
        if not load_settings().max_cooldown:
            warning = _("Cooldowns are switched off in the settings: this has no effect.")
            modeladmin.message_user(request, warning, messages.WARNING)
        text = ngettext(
            "%d provider is cooling down.", "%d providers are cooling down.", len(providers)
        )
        modeladmin.message_user(request, text % len(providers), messages.SUCCESS)

    cool_down.__name__ = name
    return cool_down


def _write(
    modeladmin: admin.ModelAdmin[Any],
    request: HttpRequest,
    providers: Iterable[Provider],
    events: list[HealthEvent],
    message: str,
    now: float,
) -> None:
    with transaction.atomic():
        write_events(events, load_settings(), now)
        for provider in providers:
            modeladmin.log_change(request, provider, message)


HEALTH_ACTIONS: tuple[Action, ...] = (
    reset_health,
    _cool_down(5 * MINUTE, "cool_down_5m", gettext_lazy("Cool down for 5 minutes")),
    _cool_down(HOUR, "cool_down_1h", gettext_lazy("Cool down for 1 hour")),
    _cool_down(8 * HOUR, "cool_down_8h", gettext_lazy("Cool down for 8 hours")),
    _cool_down(24 * HOUR, "cool_down_1d", gettext_lazy("Cool down for 1 day")),
)
