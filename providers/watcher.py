"""Keeps a worker's snapshot of the configuration up to date."""

from __future__ import annotations

import asyncio
import logging

from django.db import Error as DatabaseError

from providers.database import DatabaseThread
from providers.loading import current_version, load_snapshot
from providers.routing import Snapshot

logger = logging.getLogger("ccf.config")

POLL_SECONDS = 1.0


class ConfigurationWatcher:
    """Polls one row and loads the configuration anew when its number has changed."""

    def __init__(self, poll_seconds: float = POLL_SECONDS) -> None:
        self.snapshot = Snapshot(version=-1)
        self._poll_seconds = poll_seconds
        self._thread = DatabaseThread("configuration")
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load once, so that the first call finds a configuration; then watch."""
        await self.refresh()
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._thread.close()

    async def refresh(self) -> None:
        """Load the configuration if it has changed."""
        version = await self._thread.run(current_version)
        if version == self.snapshot.version:
            return
        self.snapshot = snapshot = await self._thread.run(load_snapshot)
        fields = {
            "version": snapshot.version,
            "providers": [provider.name for provider in snapshot.providers],
            "tokens": len(snapshot.tokens),
        }
        logger.info("config.load", extra={"fields": fields})

    async def _watch(self) -> None:
        failed = False
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                await self.refresh()
                failed = False
            except (DatabaseError, OSError) as error:
                # The last good configuration stays in force; said once, not every second.
                if not failed:
                    fields = {"message": f"{type(error).__name__}: {error}"}
                    logger.error("config.unreadable", extra={"fields": fields})
                failed = True
