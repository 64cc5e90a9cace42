"""The repairs of one attempt: a refused call, mended on a copy, for the same target once more."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from providers.knowledge import Knowledge
from providers.routing import Settings, Target
from proxy import rectifiers
from proxy.call import Call
from proxy.errors import Failure, UpstreamRefused
from proxy.outcomes import is_eligible
from proxy.rectifiers import Draft, RepairPlan
from proxy.rectifiers.drafting import draft_of, redrafted
from proxy.rectifiers.provenance import short_hash
from proxy.rectifiers.thinking import THINKING_SIGNATURE
from proxy.scaling import scale
from proxy.wire import ErrorReply

MENDABLE = frozenset({400, 413, 415, 422, 500, 501})
"""Statuses that a repair may answer to; each repair has its own among them."""

_THREADS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="repairs")
"""So few, because an image may take 200 MB while it is scaled."""

logger = logging.getLogger("ccf.repairs")


class Mending:
    """`call` and `target` are what to send next; they start as what was prepared."""

    def __init__(self, call: Call, target: Target, settings: Settings) -> None:
        self.call = call
        self.target = target
        self._prepared = call
        self._settings = settings
        self._plan: RepairPlan | None = None  # most calls never need one
        self._draft: Draft | None = None
        self._first: UpstreamRefused | None = None

    async def mend(self, failure: Failure) -> bool:
        """Whether the call was changed so that asking the same target again is worth while."""
        if not self._settings.repairs or not isinstance(failure, UpstreamRefused):
            return False
        reply = failure.reply
        if not {reply.status, reply.upstream_status} & MENDABLE:
            return False
        try:
            # Documents are decoded, perhaps images scaled: other calls need not wait for that.
            return await asyncio.get_running_loop().run_in_executor(
                _THREADS, self._apply, reply, failure
            )
        except Exception:
            # What the provider has said is worth more than that a repair has failed.
            logger.exception("repair.crash", extra={"fields": {"provider": self.target.name}})
            return False

    def _apply(self, reply: ErrorReply, failure: UpstreamRefused) -> bool:
        draft = self._draft or draft_of(self.call, scale)
        self._plan = self._plan or rectifiers.plan()
        found = self._plan.next(reply, draft, self.target, self._is_on)
        if found is None:
            return False
        self._first = self._first or failure
        self._draft = found[1]
        self.call, self.target = redrafted(self.call, self.target, draft, self._draft)
        return True

    def _is_on(self, name: str) -> bool:
        return name not in self._settings.disabled_repairs

    @property
    def notes(self) -> list[dict[str, Any]]:
        """What has been mended so far, for the log: places and sizes."""
        return [record.as_json() for record in self._plan.ran] if self._plan else []

    def verdict(self, failure: Failure) -> Failure:
        """What the attempt failed of: the original refusal, if mending only led to another one."""
        if self._first is None or not isinstance(failure, UpstreamRefused):
            return failure
        return failure if is_eligible(failure.reply) else self._first

    def learn(self, knowledge: Knowledge, target: Target, now: float, *, helped: bool) -> None:
        """Keep what was found out about `target`: what made it answer, and what it cannot do."""
        if self._plan is None:
            return
        facts = {**(self._plan.learned() if helped else {}), **self._plan.facts}
        if facts:
            repair = ", ".join(record.name for record in self._plan.ran) or "refusal"
            knowledge.learn(target, facts, repair[:64], now)
        if helped and any(record.name == THINKING_SIGNATURE.name for record in self._plan.ran):
            knowledge.refused(map(short_hash, self._prepared.seen.signatures()), target.provider.id)
