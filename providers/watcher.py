"""Keeps what a worker knows in step with the database: the configuration, health and knowledge."""

from __future__ import annotations

import asyncio
import logging

from providers.database import DatabaseThread
from providers.events import emit
from providers.health_keeper import HealthKeeper
from providers.knowledge_store import KnowledgeKeeper
from providers.loading import current_versions, load_snapshot
from providers.routing import Snapshot

POLL_SECONDS = 0.25
"""Claude Code tries again half a second after a stream has died, perhaps at another worker:
that one has to know by then whom to avoid. Each time costs a tenth of a millisecond.
"""


class Watcher:
    """Polls one row; loads anew whatever has another number than before.

    It wakes early when this worker has news of the providers' health to share.
    """

    def __init__(
        self, health: HealthKeeper, knowledge: KnowledgeKeeper, poll_seconds: float = POLL_SECONDS
    ) -> None:
        self.snapshot = Snapshot(version=-1)
        self._health = health
        self._knowledge = knowledge
        self._poll_seconds = poll_seconds
        self._thread = DatabaseThread("watcher")
        self._task: asyncio.Task[None] | None = None
        self._failed = False
        self._stopping = False

    async def start(self) -> None:
        """Read everything once, so that the first call finds it; then watch."""
        await self.refresh()
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Share the last news and stop."""
        if self._task is not None:
            # Not cancelled: what it is writing would be written, and then written once more.
            self._stopping = True
            self._health.changed.set()
            await asyncio.wait([self._task])
        await self._try_refresh()
        await self._thread.close()

    async def refresh(self) -> None:
        """One exchange with the database."""
        versions = await self._thread.run(current_versions)
        if versions.number != self.snapshot.version:
            self.snapshot = await self._thread.run(load_snapshot)
            self._health.settings = self.snapshot.settings
            emit(
                "config.load",
                version=self.snapshot.version,
                providers=[provider.name for provider in self.snapshot.providers],
                tokens=len(self.snapshot.tokens),
            )
        await self._health.exchange(self._thread, versions)
        await self._knowledge.exchange(self._thread, versions.knowledge)

    async def _watch(self) -> None:
        while not self._stopping:
            try:
                async with asyncio.timeout(self._poll_seconds):
                    await self._health.changed.wait()
            except TimeoutError:
                pass
            await self._try_refresh()

    async def _try_refresh(self) -> None:
        try:
            await self.refresh()
            self._failed = False
        except Exception as error:
            # A database that is away, or a row that makes no sense. What was read last
            # stays in force; said once, not every second.
            if not self._failed:
                emit(
                    "config.unreadable",
                    level=logging.ERROR,
                    message=f"{type(error).__name__}: {error}",
                )
            self._failed = True
            # News that cannot be written keeps the event set: don't spin on it.
            self._health.changed.clear()
