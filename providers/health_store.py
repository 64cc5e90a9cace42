"""The providers' health in the database: read, written and leased by all workers alike.

The arithmetic is `providers.health`'s; here it is only applied to rows under a lock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from django.db import transaction

from providers.health import Cause, HealthEvent, HealthKey, HealthRow, apply, claim, probe_due
from providers.health.arithmetic import is_spent
from providers.models import ConfigurationVersion, Provider, ProviderHealth
from providers.routing import Settings

_COPIED = (
    "failures",
    "last_failure",
    "last_success",
    "last_error",
    "reason",
    "since",
    "until",
    "proven_at",
    "probe_at",
    "probe_owner",
    "probe_until",
    "reply",
    "version",
)

_CAUSES = {cause.value: cause for cause in Cause}


def read_rows() -> list[HealthRow]:
    """All rows."""
    return [row_of(stored) for stored in ProviderHealth.objects.all()]


def write_events(events: Sequence[HealthEvent], settings: Settings, now: float) -> list[HealthRow]:
    """Apply events to the shared rows, all or none; the rows as they are now."""
    by_key: defaultdict[HealthKey, list[HealthEvent]] = defaultdict(list)
    for event in events:
        by_key[event.key].append(event)
    with transaction.atomic():
        stored = _locked(by_key)
        changed = []
        for key, row in stored.items():
            state = row_of(row)
            for event in by_key[key]:
                state = apply(state, event, settings, now)
            _store(row, state)
            changed.append(state)
        ProviderHealth.objects.bulk_update(stored.values(), ["cause", *_COPIED])
        ConfigurationVersion.bump("health")
    return changed


def claim_leases(
    keys: Iterable[HealthKey], worker: str, settings: Settings, now: float
) -> dict[HealthKey, float]:
    """Claim the probes that are still due: key -> end of the lease."""
    granted = {}
    with transaction.atomic():
        for key, stored in _locked(keys).items():
            row = row_of(stored)
            if probe_due(row, settings, now):
                leased = claim(row, worker, now)
                _store(stored, leased)
                stored.save(update_fields=["cause", *_COPIED])
                granted[key] = leased.probe_until or now
        if granted:
            ConfigurationVersion.bump("health")
    return granted


def forget_spent(settings: Settings, now: float) -> int:
    """Delete rows of single credentials and models that nobody needs any more."""
    narrow = ProviderHealth.objects.exclude(credential="", model="")
    spent = [row.pk for row in narrow if is_spent(row_of(row), settings, now)]
    return ProviderHealth.objects.filter(pk__in=spent).delete()[0]


def row_of(stored: ProviderHealth) -> HealthRow:
    """The stored row as the arithmetic knows it."""
    key = HealthKey(stored.provider_id, stored.credential, stored.model)
    cause = _CAUSES.get(stored.cause)
    return HealthRow(key, cause=cause, **{name: getattr(stored, name) for name in _COPIED})


def _store(stored: ProviderHealth, row: HealthRow) -> None:
    stored.cause = row.cause.value if row.cause else ""
    for name in _COPIED:
        setattr(stored, name, getattr(row, name))


def _locked(keys: Iterable[HealthKey]) -> dict[HealthKey, ProviderHealth]:
    """The rows of these keys, made where they are missing, locked until the transaction ends.

    Keys of providers that are gone are left out.
    """
    wanted = list(keys)
    known = set(
        Provider.objects.filter(pk__in={key.provider_id for key in wanted}).values_list(
            "pk", flat=True
        )
    )
    wanted = sorted(key for key in wanted if key.provider_id in known)
    if not wanted:
        return {}
    ProviderHealth.objects.bulk_create(
        [
            ProviderHealth(provider_id=k.provider_id, credential=k.credential, model=k.model)
            for k in wanted
        ],
        ignore_conflicts=True,
    )
    # Perhaps some more than wanted: SQLite refuses an OR of a thousand keys.
    rows = ProviderHealth.objects.select_for_update().filter(
        provider__in={key.provider_id for key in wanted},
        credential__in={key.credential for key in wanted},
        model__in={key.model for key in wanted},
    )
    found = {HealthKey(r.provider_id, r.credential, r.model): r for r in rows.order_by("pk")}
    return {key: found[key] for key in wanted if key in found}
