"""Rows of the request log, from the records of finished calls.

Inserted by SQL of our own: a model instance for each row would cost several times the row.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import orjson
from django.db import connection, models, transaction
from django.db.backends.utils import CursorWrapper

from proxy.history.records import MAX_INTEGER, MAX_MESSAGE, AttemptRecord, CallRecord, counted
from proxy.history.rollup import add_figures
from proxy.models import Attempt, RequestLog
from proxy.pacing import paced

Row = dict[str, Any]
"""Values by the names of the model's fields, all of them but an automatic key."""

AT_ONCE = 16
"""Calls, or attempts, in one statement. Each statement lets go of Python's lock and has to get it
back, for which it may have to wait: with one for every row a busy worker's history falls behind."""


def write_rows(batch: Iterable[CallRecord], *, keep_messages: bool = True) -> None:
    """Insert calls and their attempts and add them to the hourly figures, all or none."""
    records = list(batch)
    with transaction.atomic(), connection.cursor() as cursor:
        keys = _new_keys(cursor, len(records))
        for start in paced(range(0, len(records), AT_ONCE), at_once=1):
            portion = slice(start, start + AT_ONCE)
            calls, attempts = [], []
            for key, record in zip(keys[portion], records[portion], strict=True):
                calls.append(_call_row(key, record, keep_messages))
                for number, attempt in enumerate(record.attempts, start=1):
                    attempts.append(_attempt_row(key, number, attempt, keep_messages))
            _insert(cursor, RequestLog, calls)
            for first in range(0, len(attempts), AT_ONCE):
                _insert(cursor, Attempt, attempts[first : first + AT_ONCE])
        add_figures(records)


def _new_keys(cursor: CursorWrapper, count: int) -> Sequence[int]:
    """Keys for so many calls, so that their attempts can refer to them."""
    table = RequestLog._meta.db_table
    if connection.vendor == "sqlite":
        # Nobody else writes while this transaction lasts.
        cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [table])
        last = cursor.fetchone()
        first = last[0] + 1 if last else 1
        return range(first, first + count)
    cursor.execute(
        "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)",
        [table, count],
    )
    return [key for (key,) in cursor.fetchall()]


def _insert(cursor: CursorWrapper, model: type[models.Model], rows: Sequence[Row]) -> None:
    # SQLite's own mark saves Django from putting it in place of each of hundreds of its own. But
    # in its log of queries, which DEBUG switches on, Django has no other.
    own_mark = connection.vendor == "sqlite" and not connection.queries_logged
    statement = _statement(model, tuple(rows[0]), len(rows), "?" if own_mark else "%s")
    cursor.execute(statement, [value for row in rows for value in row.values()])


@lru_cache(maxsize=4 * AT_ONCE)
def _statement(model: type[models.Model], fields: tuple[str, ...], rows: int, mark: str) -> str:
    quote = connection.ops.quote_name
    names = {field.name: str(field.column) for field in model._meta.local_fields}
    columns = ", ".join(quote(names[name]) for name in fields)
    row = f"({', '.join([mark] * len(fields))})"
    # Names from the model and from this module alone.
    values = ", ".join([row] * rows)
    return f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES {values}"  # noqa: S608


def _call_row(key: int, record: CallRecord, keep_message: bool) -> Row:
    usage = record.usage
    return {
        "id": key,
        "time": _moment(record.time),
        "request_id": record.request_id,
        "path": record.path[:200],
        "session_id": record.session_id[:128],
        "agent_id": record.agent_id[:128],
        "token": record.token,
        "model": _clean(record.model, 200),
        "model_sent": _clean(record.model_sent, 200),
        "provider": record.provider,
        "fell_back": record.fell_back,
        "stream": record.stream,
        "status": record.status,
        "outcome": record.outcome,
        "error": _clean(record.error, MAX_MESSAGE) if keep_message else "",
        "first_byte_ms": None if record.first_byte is None else _ms(record.first_byte),
        "duration_ms": _ms(record.duration),
        "input_tokens": counted(usage.input),
        "output_tokens": counted(usage.output),
        "cache_read_tokens": counted(usage.cache_read),
        "cache_creation_tokens": counted(usage.cache_creation),
        "usage_estimated": usage.estimated,
        "body_hash": record.body_hash,
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "dropped": json.dumps(dict(record.dropped)) if record.dropped else "{}",
    }


def _attempt_row(key: int, number: int, attempt: AttemptRecord, keep_message: bool) -> Row:
    return {
        "call": key,
        "number": number,
        "kind": attempt.kind,
        "provider": attempt.provider,
        "model": _clean(attempt.model, 200),
        "status": attempt.status,
        "result": attempt.result[:32],
        "error_type": _clean(attempt.error_type, 64),
        "error_message": _clean(attempt.error_message, MAX_MESSAGE) if keep_message else "",
        "started_ms": _ms(attempt.started),
        "duration_ms": _ms(attempt.duration),
        "repairs": json.dumps(attempt.repairs) if attempt.repairs else "[]",
        "unmodified": attempt.unmodified,
        "body_hash": attempt.body_hash,
        "headers": orjson.dumps(
            {name: _clean(value, 200) for name, value in attempt.headers.items()}
        ).decode(),
    }


def _moment(time: float) -> Any:
    """What the database takes for an epoch second."""
    second = int(time)
    microsecond = int((time - second) * 1_000_000)
    whole = _whole_second(second)
    if isinstance(whole, str):  # SQLite's
        return f"{whole}.{microsecond:06d}" if microsecond else whole
    return whole.replace(microsecond=microsecond)


@lru_cache(maxsize=16)
def _whole_second(second: int) -> Any:
    """Asked for once and not for every call: it takes longer than the rest of the row."""
    moment = datetime.datetime.fromtimestamp(second, datetime.UTC)
    return connection.ops.adapt_datetimefield_value(moment)


def _ms(seconds: float) -> int:
    return min(max(0, round(seconds * 1000)), MAX_INTEGER)


def _clean(text: str, length: int) -> str:
    """Text that every database takes: no NUL, no lone surrogate, bounded."""
    if text.isascii() and "\0" not in text:
        return text[:length]
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:length]
