"""The history as CSV, streamed: however long it is, no more than a chunk of it is in memory."""

from __future__ import annotations

import csv
import datetime
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse

from proxy.models import Attempt, RequestLog

CHUNK = 1_000
FIELDS = (
    "time",
    "request_id",
    "path",
    "session_id",
    "agent_id",
    "token",
    "model",
    "model_sent",
    "provider",
    "fell_back",
    "stream",
    "status",
    "outcome",
    "error",
    "first_byte_ms",
    "duration_ms",
    "input_tokens",
    "cache_read_tokens",
    "cache_creation_tokens",
    "output_tokens",
    "usage_estimated",
    "bytes_in",
    "bytes_out",
)
Row = tuple[Any, ...]
"""The key of a call, then its FIELDS."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a text begins that a spreadsheet would take for a formula (OWASP: CSV injection)."""


def csv_response(request: HttpRequest, calls: QuerySet[RequestLog]) -> StreamingHttpResponse:
    """The calls as a file to be saved, newest first."""
    lines = csv_lines(calls)
    # Under ASGI Django would put all of a synchronous iterator into a list first.
    content = _off_the_loop(lines) if isinstance(request, ASGIRequest) else lines
    return StreamingHttpResponse(
        content,
        content_type="text/csv; charset=utf-8",
        headers={"content-disposition": 'attachment; filename="calls.csv"'},
    )


def csv_lines(calls: QuerySet[RequestLog]) -> Iterator[str]:
    """A heading, then the calls in chunks of text. A query a chunk, and one for its attempts."""
    writer = csv.writer(_Echo())
    yield writer.writerow([*FIELDS, "trail"])
    calls = calls.order_by("-time", "-pk")
    rows = _chunk(calls)
    while rows:
        trails = _trails([key for key, *_values in rows])
        yield "".join(writer.writerow([*_cells(row), trails.get(row[0], "")]) for row in rows)
        rows = _chunk(_older(calls, *rows[-1][:2])) if len(rows) == CHUNK else []


def _chunk(calls: QuerySet[RequestLog]) -> list[Row]:
    # As tuples: a model instance for each would take longer than all the rest.
    return list(calls.values_list("pk", *FIELDS)[:CHUNK])


def _older(calls: QuerySet[RequestLog], key: int, time: datetime.datetime) -> QuerySet[RequestLog]:
    """The calls after this one. One bound of the time, so that an index finds the place."""
    return calls.filter(time__lte=time).exclude(time=time, pk__gte=key)


def _trails(keys: list[int]) -> dict[int, str]:
    """How each call was answered: `a=429 -> b=200`."""
    steps: defaultdict[int, list[str]] = defaultdict(list)
    attempts = Attempt.objects.filter(call__in=keys).order_by("call", "number")
    for key, provider, result in attempts.values_list("call", "provider", "result"):
        steps[key].append(f"{provider}={result}")
    return {key: harmless(" -> ".join(trail)) for key, trail in steps.items()}


def _cells(row: Row) -> list[Any]:
    _key, time, *values = row
    return [time.isoformat(), *map(harmless, values)]


def harmless(value: Any) -> Any:
    """`value` as a spreadsheet may read it: text that looks like a formula is quoted."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value


class _Echo:
    """A file whose `write` hands back what it was given."""

    def write(self, text: str) -> str:
        return text


async def _off_the_loop(lines: Iterator[str]) -> AsyncIterator[str]:
    following = sync_to_async(lambda: next(lines, None))
    while (chunk := await following()) is not None:
        yield chunk
