"""How long the history is kept. The hourly figures stay."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone

from providers.models import ProxySettings
from proxy.models import RequestLog

BATCH = 2_000
"""Calls deleted in one transaction: between two of them, others may write."""


def prune(before: datetime, batch: int) -> int:
    """Delete the calls that began before a time, at most `batch` a transaction; how many."""
    deleted = 0
    while count := prune_batch(before, batch):
        deleted += count
        if count < batch:
            break
    return deleted


def prune_batch(before: datetime, batch: int) -> int:
    """Delete at most `batch` of the oldest calls that began before a time; how many."""
    old = RequestLog.objects.filter(time__lt=before).order_by("time")
    keys = list(old.values_list("pk", flat=True)[:batch])
    RequestLog.objects.filter(pk__in=keys).delete()
    return len(keys)


def prune_expired(batch: int = BATCH) -> bool:
    """Delete a batch of what the settings no longer keep; whether there may be more."""
    days = ProxySettings.load().retention_days
    if not days:
        return False
    return prune_batch(timezone.now() - timedelta(days=days), batch) == batch
