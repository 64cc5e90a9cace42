"""Writes finished calls to the request log: in batches, behind the calls' back."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from django.db import DataError, IntegrityError

from providers.database import DatabaseThread
from providers.events import emit
from proxy import metrics
from proxy.history.records import CallRecord
from proxy.history.retention import prune_expired
from proxy.history.rows import write_rows

BATCH = 500
GATHER_SECONDS = 0.2
TRIES = 3
RETRY_SECONDS = 1.0
FIRST_TIDY_SECONDS = 60.0
TIDY_SECONDS = 3600.0

_BAD_ROW = (DataError, IntegrityError, OverflowError, ValueError, TypeError)
"""The database is there and refuses what it was given: trying again is of no use."""


class Logbook:
    """A bounded queue and the task that empties it. `put` never waits and never fails.

    Rows gather for a moment before they are written: a transaction costs more than
    many rows. What a full queue or a broken database costs is counted in `lost`.
    """

    def __init__(
        self,
        capacity: int,
        write: Callable[[list[CallRecord]], None] | None = None,
        retry_seconds: float = RETRY_SECONDS,
        tidy: Callable[[], bool] = prune_expired,
        tidy_seconds: tuple[float, float] = (FIRST_TIDY_SECONDS, TIDY_SECONDS),
    ) -> None:
        """`tidy` deletes a batch of old calls and says whether there may be more; it is called
        for the first time, and then again and again, after so many seconds."""
        self.keep_messages = True
        self.lost = 0
        self._capacity = capacity
        self._write = write or self._write_rows
        self._retry_seconds = retry_seconds
        self._waiting: deque[CallRecord] = deque()
        self._news = asyncio.Event()
        self._close_asked = asyncio.Event()
        self._thread = DatabaseThread("logbook")
        self._task: asyncio.Task[None] | None = None
        self._tidy = tidy
        self._tidy_seconds = tidy_seconds
        self._housekeeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())
        self._housekeeping = asyncio.create_task(self._keep_house())

    def put(self, record: CallRecord) -> None:
        """Take a finished call."""
        if len(self._waiting) >= self._capacity:
            self._lose(1, "the queue is full")
            return
        self._waiting.append(record)
        self._news.set()

    async def close(self) -> None:
        """Write what is waiting, then end."""
        self._close_asked.set()
        self._news.set()
        if self._housekeeping is not None:
            self._housekeeping.cancel()
            await asyncio.wait([self._housekeeping])
        if self._task is not None:
            await self._task
        await self._thread.close()

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            if len(self._waiting) < BATCH:
                await self._gather()
            self._news.clear()
            # No more than that: what comes while it is written gathers for the next time, else a
            # busy worker would write two or three rows in every transaction.
            gathered = len(self._waiting)
            while gathered:
                size = min(BATCH, gathered)
                gathered -= size
                batch = [self._waiting.popleft() for _ in range(size)]
                await self._count(batch)
                await self._flush(batch)
            if self._close_asked.is_set() and not self._waiting:
                return

    async def _count(self, batch: list[CallRecord]) -> None:
        """Once, whatever becomes of the rows."""
        try:
            await self._thread.run(metrics.observe, batch)
        except Exception as error:  # the history is worth more than the figures about it
            message = f"{type(error).__name__}: {error}"
            emit("metrics.failed", level=logging.ERROR, message=message)

    async def _keep_house(self) -> None:
        """Delete what is too old. Between two batches the thread is free for new rows."""
        wait, ever_after = self._tidy_seconds
        while True:
            await asyncio.sleep(wait)
            wait = ever_after
            try:
                while await self._thread.run(self._tidy):
                    pass
            except Exception as error:  # the next time may be better
                message = f"{type(error).__name__}: {error}"
                emit("retention.failed", level=logging.ERROR, message=message)

    async def _gather(self) -> None:
        try:
            async with asyncio.timeout(GATHER_SECONDS):
                await self._close_asked.wait()
        except TimeoutError:
            pass

    async def _flush(self, batch: list[CallRecord]) -> None:
        for number in range(1, TRIES + 1):
            try:
                await self._thread.run(self._write, batch)
            except _BAD_ROW as error:
                if len(batch) == 1:
                    self._lose(1, f"{type(error).__name__}: {error}")
                # The others are not to suffer for it.
                for record in batch if len(batch) > 1 else ():
                    await self._flush([record])
                return
            except Exception as error:  # whatever is wrong with the database, calls go on
                if number == TRIES or self._close_asked.is_set():
                    self._lose(len(batch), f"{type(error).__name__}: {error}")
                    return
                await asyncio.sleep(self._retry_seconds)
            else:
                return

    def _lose(self, rows: int, why: str) -> None:
        self.lost += rows
        metrics.rows_lost.inc(rows)
        emit("logbook.lost", level=logging.ERROR, rows=rows, total=self.lost, message=why)

    def _write_rows(self, batch: list[CallRecord]) -> None:
        write_rows(batch, keep_messages=self.keep_messages)
