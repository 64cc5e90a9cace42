"""The history as CSV, streamed: however long it is, no more than a chunk of it is in memory."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse

from proxy.models import RequestLog

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
    calls = calls.order_by("-pk").prefetch_related("attempts")
    last: int | None = None
    while True:
        page = calls if last is None else calls.filter(pk__lt=last)
        rows = list(page[:CHUNK])
        if rows:
            yield "".join(writer.writerow(_cells(row)) for row in rows)
        if len(rows) < CHUNK:
            return
        last = rows[-1].pk


def _cells(call: RequestLog) -> list[Any]:
    cells = [harmless(getattr(call, name)) for name in FIELDS]
    cells[0] = call.time.isoformat()
    trail = " -> ".join(f"{a.provider}={a.result}" for a in call.attempts.all())
    return [*cells, harmless(trail)]


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
