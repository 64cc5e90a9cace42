"""Writes finished calls to the request log: in batches, behind the calls' back."""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections import deque
from collections.abc import Callable, Iterable

from django.db import transaction

from providers.database import DatabaseThread
from providers.events import emit
from proxy.models import Attempt, RequestLog
from proxy.records import MAX_MESSAGE, AttemptRecord, CallRecord
from proxy.retention import prune_expired
from proxy.rollup import add_figures

BATCH = 500
TRIES = 3
RETRY_SECONDS = 1.0
FIRST_TIDY_SECONDS = 60.0
TIDY_SECONDS = 3600.0


class Logbook:
    """A bounded queue and the task that empties it. `put` never waits and never fails.

    A flush starts as soon as the last one has ended, so batches grow with the
    load. What a full queue or a broken database costs is counted in `lost`.
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
        self._closing = False
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
        self._closing = True
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
            self._news.clear()
            while self._waiting:
                size = min(BATCH, len(self._waiting))
                await self._flush([self._waiting.popleft() for _ in range(size)])
            if self._closing:
                return

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

    async def _flush(self, batch: list[CallRecord]) -> None:
        for number in range(1, TRIES + 1):
            try:
                await self._thread.run(self._write, batch)
            except Exception as error:  # whatever is wrong with the database, calls go on
                if number == TRIES or self._closing:
                    self._lose(len(batch), f"{type(error).__name__}: {error}")
                    return
                await asyncio.sleep(self._retry_seconds)
            else:
                return

    def _lose(self, rows: int, why: str) -> None:
        self.lost += rows
        emit("logbook.lost", level=logging.ERROR, rows=rows, total=self.lost, message=why)

    def _write_rows(self, batch: list[CallRecord]) -> None:
        write_rows(batch, keep_messages=self.keep_messages)


def write_rows(batch: Iterable[CallRecord], *, keep_messages: bool = True) -> None:
    """Insert calls and their attempts and add them to the hourly figures, all or none."""
    records = list(batch)
    with transaction.atomic():
        calls = RequestLog.objects.bulk_create([_call_row(r, keep_messages) for r in records])
        Attempt.objects.bulk_create(
            _attempt_row(call, number, attempt, keep_messages)
            for call, record in zip(calls, records, strict=True)
            for number, attempt in enumerate(record.attempts, start=1)
        )
        add_figures(records)


def _call_row(record: CallRecord, keep_message: bool) -> RequestLog:
    usage = record.usage
    error = record.error if keep_message else ""
    return RequestLog(
        time=datetime.datetime.fromtimestamp(record.time, datetime.UTC),
        request_id=record.request_id,
        path=record.path[:200],
        session_id=record.session_id[:128],
        agent_id=record.agent_id[:128],
        token=record.token,
        model=_clean(record.model, 200),
        model_sent=_clean(record.model_sent, 200),
        provider=record.provider,
        fell_back=record.fell_back,
        stream=record.stream,
        status=record.status,
        outcome=record.outcome,
        error=_clean(error, MAX_MESSAGE),
        first_byte_ms=None if record.first_byte is None else _ms(record.first_byte),
        duration_ms=_ms(record.duration),
        input_tokens=usage.input,
        output_tokens=usage.output,
        cache_read_tokens=usage.cache_read,
        cache_creation_tokens=usage.cache_creation,
        usage_estimated=usage.estimated,
        body_hash=record.body_hash,
        bytes_in=record.bytes_in,
        bytes_out=record.bytes_out,
        dropped=dict(record.dropped),
    )


def _attempt_row(
    call: RequestLog, number: int, attempt: AttemptRecord, keep_message: bool
) -> Attempt:
    message = attempt.error_message if keep_message else ""
    return Attempt(
        call=call,
        number=number,
        kind=attempt.kind,
        provider=attempt.provider,
        model=_clean(attempt.model, 200),
        status=attempt.status,
        result=attempt.result[:32],
        error_type=_clean(attempt.error_type, 64),
        error_message=_clean(message, MAX_MESSAGE),
        repairs=attempt.repairs,
        unmodified=attempt.unmodified,
        body_hash=attempt.body_hash,
        started_ms=_ms(attempt.started),
        duration_ms=_ms(attempt.duration),
        headers={name: _clean(value, 200) for name, value in attempt.headers.items()},
    )


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _clean(text: str, length: int) -> str:
    """Text that every database takes: no NUL, no lone surrogate, bounded."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:length]
