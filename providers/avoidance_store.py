"""Which conversation avoids which provider, in the database: shared by all workers."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction
from django.db.models import Q

from providers.health import AVOID_SECONDS, MAX_CONVERSATIONS, Avoided
from providers.health.arithmetic import CLOCK_SKEW
from providers.models import AvoidedProvider, ConfigurationVersion, Provider


def read_avoided() -> list[Avoided]:
    """What is avoided, the latest last, and not more than a worker remembers."""
    rows = AvoidedProvider.objects.order_by("-until")[:MAX_CONVERSATIONS]
    return [Avoided(row.provider_id, row.conversation, row.until) for row in reversed(rows)]


def write_avoided(news: Sequence[Avoided], now: float) -> None:
    """Add to what is avoided, and tell every worker. Providers that are gone are left out."""
    with transaction.atomic():
        # First of all, so that of several writers one comes after the other.
        ConfigurationVersion.bump("avoidance")
        forget_expired(now)
        wanted = {avoided.provider_id for avoided in news}
        known = set(Provider.objects.filter(pk__in=wanted).values_list("pk", flat=True))
        AvoidedProvider.objects.bulk_create(
            [AvoidedProvider(**a._asdict()) for a in sorted(news) if a.provider_id in known],
            update_conflicts=True,
            unique_fields=["provider", "conversation"],
            update_fields=["until"],
        )


def forget_avoided(providers: Sequence[int]) -> None:
    """Nobody avoids these providers any longer."""
    with transaction.atomic():
        ConfigurationVersion.bump("avoidance")
        AvoidedProvider.objects.filter(provider__in=providers).delete()


def forget_expired(now: float) -> None:
    """Delete what is in force by nobody's clock."""
    over = Q(until__lte=now - CLOCK_SKEW) | Q(until__gt=now + AVOID_SECONDS + CLOCK_SKEW)
    AvoidedProvider.objects.filter(over).delete()
