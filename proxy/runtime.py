"""What a worker holds while it serves: opened and closed by the ASGI lifespan."""

from __future__ import annotations

import asyncio

from django.conf import settings

from providers.database import DatabaseThread
from providers.events import emit
from providers.health_keeper import HealthKeeper
from providers.knowledge_store import KnowledgeKeeper
from providers.routing import Snapshot
from providers.watcher import Watcher
from proxy.history.logbook import Logbook
from proxy.history.records import CallRecord
from proxy.reading import BodyReader
from proxy.relay import Relay
from proxy.upstream import UpstreamClient

LIVE_CALLS_GRACE = 5.0
"""Seconds that calls get to end after the server has cancelled them."""


class LiveCalls:
    """To be entered around every call, so that a shutdown waits for its log row."""

    def __init__(self) -> None:
        self.none = asyncio.Event()
        self.none.set()
        self._number = 0

    def __enter__(self) -> None:
        self._number += 1
        self.none.clear()

    def __exit__(self, *error: object) -> None:
        self._number -= 1
        if not self._number:
            self.none.set()


class Runtime:
    """One a worker."""

    def __init__(self, upstream: UpstreamClient | None = None) -> None:
        self.upstream = upstream or UpstreamClient()
        self.health = HealthKeeper()
        self.knowledge = KnowledgeKeeper()
        self.watcher = Watcher(self.health, self.knowledge)
        self.logbook = Logbook(settings.LOG_QUEUE_SIZE)
        self.queries = DatabaseThread("queries")
        self.reader = BodyReader()
        self.relay = Relay(self.upstream, self.health, self.knowledge.table)
        self.live_calls = LiveCalls()

    @property
    def snapshot(self) -> Snapshot:
        return self.watcher.snapshot

    def keep_record(self, record: CallRecord) -> None:
        """A call is over: say so in the log, and keep it in the history."""
        emit(
            "request.complete",
            request_id=record.request_id,
            outcome=record.outcome,
            status=record.status,
            provider=record.provider or None,
            attempts=record.trail() or None,
            milliseconds=round(record.duration * 1000),
        )
        self.logbook.keep_messages = self.snapshot.settings.log_error_messages
        self.logbook.put(record)

    async def start(self) -> None:
        await self.watcher.start()
        self.logbook.start()

    async def stop(self) -> None:
        """The server ends live calls while this runs: wait for them, then write their rows."""
        try:
            async with asyncio.timeout(LIVE_CALLS_GRACE):
                await self.live_calls.none.wait()
        except TimeoutError:
            pass
        await self.upstream.close()
        await self.watcher.stop()
        await self.logbook.close()
        await self.queries.close()
