"""Two real workers over one database: what one has seen of a provider, both know."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from django.conf import settings

from tests.proxy import CLIENT_KEY, PROVIDER_KEY, body_of, until
from tests.raw_http import RawConnection, Reply
from tests.test_serve import PATIENCE, TOKEN, command, environment, free_port
from tests.upstreams import (
    BLOCK,
    HELLO,
    START,
    Connection,
    FakeProvider,
    Received,
    Step,
    Then,
    ok,
    stream,
    used_up,
)

SESSION = "x-claude-code-session-id"

COUNT = "SELECT count(*) FROM providers_providerhealth WHERE cause <> ''"


@dataclass
class Installation:
    """A data directory and a database of its own."""

    data_dir: Path
    postgres: str = ""

    def environment(self) -> dict[str, str]:
        variables = {"DATABASE_URL": self.postgres} if self.postgres else {}
        return environment(self.data_dir, **variables)

    def cooldowns(self) -> int:
        """How many are written down."""
        if self.postgres:
            with psycopg.connect(self.postgres) as connection:
                found = connection.execute(COUNT).fetchone()
        else:
            with closing(sqlite3.connect(self.data_dir / "db.sqlite3")) as database:
                found = database.execute(COUNT).fetchone()
        assert found is not None
        return int(found[0])


@contextmanager
def postgres_database() -> Iterator[str]:
    """A database of its own on a server of this machine."""
    user, port = os.environ.get("PGUSER", "postgres"), os.environ.get("PGPORT", "5432")
    password = os.environ.get("PGPASSWORD", "postgres")
    server = f"postgres://{user}:{password}@127.0.0.1:{port}"
    name = f"fallbackproxy_test_{os.getpid()}"
    try:
        connection = psycopg.connect(f"{server}/postgres", autocommit=True, connect_timeout=2)
    except psycopg.OperationalError as error:
        pytest.skip(f"no Postgres on 127.0.0.1:{port}: {str(error).strip().splitlines()[0]}")
    with connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield f"{server}/{name}"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["SQLite", "Postgres"])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    if request.param == "SQLite":
        yield Installation(tmp_path / "data")
    else:
        with postgres_database() as url:
            yield Installation(tmp_path / "data", url)


class TwoWorkers:
    """`manage.py serve --workers 2`."""

    def __init__(self, process: subprocess.Popen[str], port: int, token: str) -> None:
        self.process = process
        self.port = port
        self.token = token

    def pids(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    @asynccontextmanager
    async def all_but(self, pid: int) -> AsyncIterator[None]:
        """Whoever connects meanwhile is served by the other worker."""
        os.kill(pid, signal.SIGSTOP)
        try:
            await until(lambda: state_of(pid) == "T", "the worker has stopped")
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @asynccontextmanager
    async def connected_to(self, pid: int) -> AsyncIterator[RawConnection]:
        """A connection that this worker has accepted and keeps."""
        (other,) = set(self.pids()) - {pid}
        async with self.all_but(other):
            connection = await RawConnection.to(self.port)
            await connection.send("GET", "/healthz")
            assert (await connection.reply()).status == 200
        async with connection:
            yield connection

    async def ask(self, connection: RawConnection, session: str) -> Reply:
        await connection.send(
            "POST", "/v1/messages", [*self.headers(), (SESSION, session)], body_of()
        )
        return await connection.reply()

    def headers(self) -> list[tuple[str, str]]:
        return [("x-ccf-api-key", self.token), ("authorization", f"Bearer {CLIENT_KEY}")]

    async def get(self, target: str) -> Reply:
        return await self._ask("GET", target, None)

    async def call(self) -> str | None:
        """Who was asked."""
        answer = await self._ask("POST", "/v1/messages", body_of())
        assert answer.status == 200, answer.body
        return answer["x-ccf-attempts"]

    async def _ask(self, method: str, target: str, body: bytes | None) -> Reply:
        async with await RawConnection.to(self.port) as connection:
            await connection.send(method, target, self.headers(), body)
            return await connection.reply()

    async def knows(self, provider: str) -> bool:
        """Whether the worker that answers would ask this provider now."""
        answer = await self.get("/v1/ccf/status")
        return answer.status == 200 and answer.json()["provider"] == provider


def state_of(pid: int) -> str:
    """One letter, as the kernel has it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@contextmanager
def serving(installation: Installation, port: int) -> Iterator[tuple[TwoWorkers, Path]]:
    """The server from its greeting on, and its log; the workers are still to come."""
    log = installation.data_dir.with_name("serve.log")
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*command(f"127.0.0.1:{port}"), "--workers", "2"],
            env=installation.environment(),
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        printed = ""
        for line in process.stdout or ():
            printed += line
            if "ANTHROPIC_CUSTOM_HEADERS" in line:
                break
        found = TOKEN.search(printed)
        assert found, f"{printed}{log.read_text()}"
        yield TwoWorkers(process, port, found[0]), log
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)


def configure(installation: Installation, up: FakeProvider, other: FakeProvider) -> None:
    """As an operator does it."""
    document = {
        "providers": [
            {"name": "anthropic-primary", "baseUrl": up.url, "credentials": "client"},
            {"name": "openrouter", "baseUrl": other.url, "apiKey": PROVIDER_KEY},
        ]
    }
    file = installation.data_dir.with_name("providers.json")
    file.write_text(json.dumps(document))
    done = subprocess.run(
        [sys.executable, str(settings.BASE_DIR / "manage.py"), "import_config", str(file)],
        env=installation.environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@asynccontextmanager
async def two_workers(
    installation: Installation, up: FakeProvider, other: FakeProvider
) -> AsyncIterator[TwoWorkers]:
    """Both of them ready to ask these two providers."""
    with serving(installation, free_port()) as (server, log):
        configure(installation, up, other)
        await until(lambda: log.read_text().count('"config.load"') >= 2, "they serve", PATIENCE)
        for pid in server.pids():
            async with server.all_but(pid):
                await until(lambda: configured(server), "the worker knows its providers")
        yield server


async def test_a_provider_that_one_worker_has_closed_is_skipped_by_the_other(
    installation: Installation,
) -> None:
    limit = used_up(time.time() + 3600)
    async with FakeProvider(limit) as up, FakeProvider(ok()) as other:
        async with two_workers(installation, up, other) as server:
            first, second = server.pids()
            async with server.all_but(second):
                assert await server.call() == "anthropic-primary=429,openrouter=200"
                await until(lambda: installation.cooldowns() == 1, "it is written")
            async with server.all_but(first):
                await until(lambda: server.knows("openrouter"), "the other has read it")
                assert await server.call() == "anthropic-primary=skipped,openrouter=200"
            assert len(up.requests) == 1


async def configured(server: TwoWorkers) -> bool:
    body = (await server.get("/v1/ccf/status")).json()
    return [line["name"] for line in body["providers"]] == ["anthropic-primary", "openrouter"]


def dies_once_a_session() -> Step:
    """A stream that breaks off at the first call of every session, and a good answer to others."""
    seen: set[bytes] = set()

    async def step(connection: Connection, request: Received) -> None:
        (session,) = request.values(SESSION)
        dies = stream(START, BLOCK, HELLO, Then.CUT)
        await (ok() if session in seen else dies)(connection, request)
        seen.add(session)

    return step


async def test_a_retry_that_reaches_the_other_worker_avoids_the_provider_whose_stream_died(
    installation: Installation,
) -> None:
    async with FakeProvider(dies_once_a_session()) as up, FakeProvider(ok()) as other:
        async with two_workers(installation, up, other) as server:
            first, second = server.pids()
            async with server.connected_to(second) as retrying:
                async with server.connected_to(first) as dying:
                    assert (await server.ask(dying, "session")).aborted

                async def avoided() -> bool:
                    trail = (await server.ask(retrying, "session"))["x-ccf-attempts"]
                    return trail == "anthropic-primary=skipped,openrouter=200"

                await until(avoided, "the other worker has heard of it")


async def test_whichever_worker_is_asked_tells_the_figures_of_all(
    installation: Installation,
) -> None:
    async with FakeProvider(ok()) as up, FakeProvider(ok()) as other:
        async with two_workers(installation, up, other) as server:
            first, second = server.pids()
            for pid, calls in ((first, 2), (second, 3)):
                async with server.connected_to(pid) as connection:
                    for _ in range(calls):
                        assert (await server.ask(connection, "session")).status == 200
            for pid in (first, second):
                async with server.connected_to(pid) as connection:
                    await until(lambda c=connection: counts(server, c, 5), "all are counted")  # type: ignore[misc]
            directory = metrics_directory(first)
            os.kill(first, signal.SIGKILL)
            await until(lambda: first not in server.pids(), "the worker has ended")
            await until(lambda: len(server.pids()) == 2, "another has come in its place")
            (new,) = set(server.pids()) - {second}
            async with server.connected_to(new) as connection:
                assert (await server.ask(connection, "session")).status == 200
                await until(lambda: counts(server, connection, 6), "what was counted stays")
        assert not directory.exists()


async def test_a_worker_starts_also_where_the_figures_have_been_tidied_away(
    tmp_path: Path,
) -> None:
    # As systemd does with the files of a user who logs out.

    async with FakeProvider(ok()) as up, FakeProvider(ok()) as other:
        async with two_workers(Installation(tmp_path / "data"), up, other) as server:
            first, second = server.pids()
            shutil.rmtree(metrics_directory(first))
            os.kill(first, signal.SIGKILL)
            await until(lambda: first not in server.pids(), "the worker has ended")
            await until(lambda: len(server.pids()) == 2, "another has come in its place")
            (new,) = set(server.pids()) - {second}
            async with server.connected_to(new) as connection:
                assert (await server.ask(connection, "session")).status == 200
                await until(lambda: counts(server, connection, 1), "it counts")


def metrics_directory(worker: int) -> Path:
    """Where a worker counts together with the others."""
    parents = Path("/dev/shm"), Path(tempfile.gettempdir())
    found = {
        file.parent for p in parents for file in p.glob(f"fallbackproxy-metrics-*/*_{worker}.db")
    }
    (directory,) = found
    return directory


async def counts(server: TwoWorkers, connection: RawConnection, calls: int) -> bool:
    await connection.send("GET", "/metrics", [("authorization", f"Bearer {server.token}")])
    answer = await connection.reply()
    assert answer.status == 200, answer.body
    line = (
        'ccf_calls_total{endpoint="messages",outcome="answered",provider="anthropic-primary"} '
        f"{calls}.0"
    )
    return line in answer.body.decode().splitlines()
