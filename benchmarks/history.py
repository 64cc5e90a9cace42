"""Fills a database with a long history, and times the pages that look at it.

    python -m benchmarks.history [--rows 1000000] [--database URL] [--keep DIRECTORY] [--explain]

On SQLite in a directory that is removed, unless it is kept: what is there is not filled again.
Or on an empty database of PostgreSQL: `--database postgres://...`. The pages are made in this
process by the whole of Django, middleware and templates, for an administrator who is logged in.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import statistics
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.history.records import CallRecord

BATCH = 2_000
DAYS = 35
ROUNDS = 7
SESSION = "5e550000-0000-4000-8000-{:012}"
_LIST = "/admin/proxy/requestlog/"


def pages(rows: int, now: float) -> dict[str, str]:
    """What is timed: name, path. Some filters match nearly every row, some hardly any."""
    week_ago = int(now // 3600 * 3600) - 7 * 86400
    long_ago = int(now // 3600 * 3600) - (DAYS - 2) * 86400
    return {
        "front page, 24 hours": "/admin/",
        "front page, 7 days": "/admin/?range=7d",
        "front page, 30 days": "/admin/?range=30d",
        "history": _LIST,
        "its tenth page": f"{_LIST}?p=10",
        "a provider of nearly all": f"{_LIST}?provider=anthropic-primary",
        "a provider of 1 in 200": f"{_LIST}?provider=kimi",
        "a provider of long ago": f"{_LIST}?provider=former",
        "a model of long ago": f"{_LIST}?model=claude-3-opus",
        "a token of long ago": f"{_LIST}?token=retired",
        "failed": f"{_LIST}?outcome=failed",
        "every error": f"{_LIST}?outcome=any",
        "fell back": f"{_LIST}?fell_back=1",
        "token counts": f"{_LIST}?kind=count",
        "other endpoints": f"{_LIST}?kind=other",
        "24 hours": f"{_LIST}?since=24",
        "24 hours, failed": f"{_LIST}?since=24&outcome=failed",
        "an hour, a week ago": f"{_LIST}?since={week_ago}-{week_ago + 3600}&kind=messages",
        "an hour, long ago": f"{_LIST}?since={long_ago}-{long_ago + 3600}",
        "30 days, 1 in 200, errors": f"{_LIST}?since=720&provider=kimi&outcome=any",
        "nothing matches": f"{_LIST}?provider=former&token=retired",
        "a session": f"{_LIST}?session={SESSION.format(rows // 24)}",
        "a search": f"{_LIST}?q=req_00000{rows // 20_000}",
        "a call": f"{_LIST}{rows // 2}/change/",
    }


def main() -> None:
    arguments = _arguments()
    _set_up(arguments)
    rows = _fill(arguments.rows)
    _time_pages(rows, explain=arguments.explain)
    _time_export()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--database", default="", help="an empty database of PostgreSQL")
    parser.add_argument("--keep", default="", help="where the database of SQLite stays")
    parser.add_argument("--explain", action="store_true", help="with the plans of slow queries")
    return parser.parse_args()


def _set_up(arguments: argparse.Namespace) -> None:
    """Django, in a data directory of its own, with all tables."""
    if arguments.keep:
        file = Path(arguments.keep).resolve() / "history.sqlite3"
        file.parent.mkdir(parents=True, exist_ok=True)
        os.environ["DATABASE_URL"] = f"sqlite:///{file}"
    if arguments.database:
        os.environ["DATABASE_URL"] = arguments.database
    importlib.import_module("benchmarks.configured")
    from django.conf import settings
    from django.core.management import call_command

    settings.ALLOWED_HOSTS = ["testserver"]
    call_command("migrate", verbosity=0)


def _fill(rows: int) -> int:
    """So many calls, unless there are some; how many there are."""
    from django.contrib.auth.models import User
    from django.db import connection

    from providers.models import Provider
    from proxy.history.rows import write_rows
    from proxy.models import RequestLog

    newest = RequestLog.objects.order_by("-pk").values_list("pk", flat=True).first()
    if newest:
        return int(newest)
    User.objects.create_superuser("admin")
    for position, name in enumerate(("openrouter", "kimi"), start=1):
        Provider.objects.create(name=name, base_url="https://h", api_key="k", position=position)
    began = time.perf_counter()
    calls = _calls(rows)
    while batch := list(islice(calls, BATCH)):
        write_rows(batch)
    seconds = time.perf_counter() - began
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")  # PostgreSQL does so by itself, in a minute or two
    print(f"{rows:,} calls written in {seconds:.0f} s: {rows / seconds:,.0f} a second\n")
    return rows


def _calls(rows: int) -> Iterator[CallRecord]:
    """Calls of the last weeks, oldest first, more by day than by night."""
    from proxy.history.records import AttemptRecord, CallRecord
    from proxy.usage import Usage

    chance, now = random.Random(11), time.time()
    models = ("claude-opus-4-8", "claude-sonnet-5", "claude-sonnet-5", "claude-haiku-4-5")
    for number in range(1, rows + 1):
        old = number < rows // 20
        luck = chance.random()
        provider = "kimi" if luck < 0.005 else "openrouter" if luck < 0.06 else "anthropic-primary"
        if old and luck > 0.99:
            provider = "former"
        failed = chance.random() < 0.002
        record = CallRecord(
            request_id=f"req_{number:012}",
            path="/v1/messages" if chance.random() < 0.98 else "/v1/messages/count_tokens",
            session_id=SESSION.format(number // 12),
            agent_id="",
            token="retired" if old and luck < 0.01 else "laptop",
            bytes_in=120_000,
            keep=lambda record: None,
            model="claude-3-opus" if old and luck < 0.01 else chance.choice(models),
            stream=True,
            time=now - DAYS * 86400 * (1 - number / rows),
        )
        steps = [("anthropic-primary", 429)] if provider != "anthropic-primary" else []
        for name, status in [*steps, (provider, 529 if failed else 200)]:
            attempt = AttemptRecord(name, record.model, started=0.001, duration=0.9)
            attempt.status, attempt.result = status, str(status)
            attempt.headers = {"request-id": f"req_{number}", "content-type": "text/event-stream"}
            record.attempts.append(attempt)
        record.provider = "" if failed else provider
        record.status, record.outcome = (529, "failed") if failed else (200, "answered")
        record.first_byte, record.duration = 0.5 + luck, 12.0 + luck
        record.usage = Usage(200, 900, 60_000, 800)
        yield record


def _time_pages(rows: int, *, explain: bool) -> None:
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    client = Client()
    client.force_login(User.objects.get(username="admin"))
    print(f"{'':28} {'median ms':>10} {'worst ms':>9} {'CPU ms':>7} {'queries':>8} {'SQL ms':>7}")
    for name, path in pages(rows, time.time()).items():
        times, cpu = [], []
        with CaptureQueriesContext(connection) as captured:
            response = client.get(path)
        queries = list(captured)
        if response.status_code != 200:
            raise SystemExit(f"{path}: {response.status_code}")
        sql = sum(float(query["time"]) for query in queries)
        for _ in range(ROUNDS):
            began, busy = time.perf_counter(), time.process_time()
            client.get(path)
            times.append((time.perf_counter() - began) * 1000)
            cpu.append((time.process_time() - busy) * 1000)
        print(
            f"{name:28} {statistics.median(times):10.0f} {max(times):9.0f}"
            f" {statistics.median(cpu):7.0f} {len(queries):8} {sql * 1000:7.0f}",
            flush=True,
        )
        for query in queries if explain else ():
            if float(query["time"]) > 0.01:
                print(f"    {query['time']} s: {query['sql'][:1500]}")
                _explain(query["sql"])


def _explain(statement: str) -> None:
    from django.db import connection

    word = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN (ANALYZE, BUFFERS)"
    with connection.cursor() as cursor:
        cursor.execute(f"{word} {statement}")
        for row in cursor.fetchall():
            print("       ", row[-1])


def _time_export() -> None:
    """The whole history as CSV: how long, and that memory does not grow with it."""
    import resource

    from proxy.admin.csv_export import csv_lines
    from proxy.models import RequestLog

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    lines = csv_lines(RequestLog.objects.all())
    next(lines), next(lines)
    first = time.perf_counter() - began
    size = sum(len(chunk) for chunk in lines)
    seconds = time.perf_counter() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(
        f"\nCSV of all: first chunk after {first * 1000:.0f} ms, {size / 1e6:,.0f} MB in"
        f" {seconds:.0f} s, peak memory grew by {grown / 1024:.0f} MB"
    )


if __name__ == "__main__":
    main()
