"""Shares what was learned about providers between the workers, through the database."""

from __future__ import annotations

import time

from django.db import transaction

from providers.database import DatabaseThread
from providers.knowledge import MAX_SIGNATURES, Changes, Fact, Knowledge, Signature
from providers.models import ConfigurationVersion, LearnedFact, Provider, SignatureOrigin


class KnowledgeKeeper:
    """Owns a worker's `Knowledge` and keeps it in step with the database."""

    def __init__(self) -> None:
        self.table = Knowledge()
        self._seen = -1

    async def exchange(self, thread: DatabaseThread, version: int) -> None:
        """Write what this worker has learned, read what the others have."""
        if self.table.has_changes:
            changes = self.table.drain_changes()
            try:
                await thread.run(write_changes, changes)
            except BaseException:
                self.table.restore_changes(changes)
                raise
        if version != self._seen:
            facts, signatures = await thread.run(read_all)
            self.table.load(facts, signatures)
            self._seen = version


def read_all() -> tuple[list[Fact], list[Signature]]:
    """Facts that still hold, and the signatures that are remembered, oldest first."""
    facts = [
        Fact(f.provider_id, f.model, f.key, f.value, f.repair, f.expires)
        for f in LearnedFact.objects.filter(expires__gt=time.time())
    ]
    newest = SignatureOrigin.objects.order_by("-pk")[:MAX_SIGNATURES]
    signatures = [Signature(s.digest, s.provider_id) for s in newest]
    return facts, signatures[::-1]


def write_changes(changes: Changes) -> None:
    """All or none. What concerns a provider that is gone is dropped."""
    with transaction.atomic():
        known = set(Provider.objects.values_list("pk", flat=True))
        for fact in changes.facts:
            if fact.provider_id in known:
                LearnedFact.objects.update_or_create(
                    provider_id=fact.provider_id,
                    model=fact.model[:200],
                    key=fact.key,
                    defaults={
                        "value": fact.value,
                        "repair": fact.repair,
                        "expires": fact.expires,
                    },
                )
        SignatureOrigin.objects.bulk_create(
            [
                SignatureOrigin(digest=s.digest, provider_id=s.provider_id)
                for s in changes.signatures
                if s.provider_id in known
            ],
            ignore_conflicts=True,  # whoever was first has signed
        )
        newest = SignatureOrigin.objects.order_by("-pk").values_list("pk", flat=True)
        oldest_kept = newest[MAX_SIGNATURES - 1 : MAX_SIGNATURES].first()
        if oldest_kept is not None:
            SignatureOrigin.objects.filter(pk__lt=oldest_kept).delete()
        ConfigurationVersion.bump("knowledge")
