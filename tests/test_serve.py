"""`manage.py serve`: what the first run makes, what later runs do not say, and how it fails."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from django.conf import settings

from providers.models import token_digest

PASSWORD = re.compile(r"^Password: (\S+) ", re.MULTILINE)
TOKEN = re.compile(r"sk-ccf-[\w-]+")
PATIENCE = 30


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def environment(data_dir: Path, **variables: str) -> dict[str, str]:
    left_out = ("ALLOWED_HOSTS", "DJANGO_SETTINGS_MODULE", "DATABASE_URL")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, "DATA_DIR": str(data_dir), "WEB_CONCURRENCY": "1", **variables}


def command(bind: str) -> list[str]:
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), "serve", "--bind", bind]


@dataclass
class Server:
    """A running `serve`, from another directory than its own."""

    bind: str
    data_dir: Path
    printed: str = ""
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.data_dir.with_name(f"{self.bind}.log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command(self.bind),
                env=environment(self.data_dir),
                cwd="/",
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    @property
    def url(self) -> str:
        return f"http://{self.bind}"

    def greet(self) -> Server:
        """Read what it prints until it becomes the server."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed += line
            if "ANTHROPIC_CUSTOM_HEADERS" in line:
                return self
        raise AssertionError(f"no greeting: {self.printed}{self.log.read_text()}")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        rest, _ = self.process.communicate(timeout=PATIENCE)
        self.printed += rest
        return self.process.returncode


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serve") / "data"


@pytest.fixture(scope="module")
def first_runs(data_dir: Path) -> Iterator[list[Server]]:
    """Two first runs of one installation at the same moment."""
    servers = [Server(f"127.0.0.2:{free_port('127.0.0.2')}", data_dir) for _ in range(2)]
    try:
        yield [server.greet() for server in servers]
    finally:
        for server in servers:
            server.stop()


@pytest.fixture(scope="module")
def printed(first_runs: list[Server]) -> str:
    return "".join(server.printed for server in first_runs)


@pytest.fixture(scope="module")
def later_run(data_dir: Path, printed: str) -> Iterator[Server]:
    server = Server(f"0.0.0.0:{free_port()}", data_dir)
    try:
        yield server.greet()
    finally:
        if server.process.poll() is None:
            server.stop()


def rows(data_dir: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(data_dir / "db.sqlite3")) as database:
        return database.execute(query).fetchall()


class TestTheFirstRun:
    def test_prints_one_password_and_one_token_however_many_start_at_once(
        self, printed: str
    ) -> None:
        assert len(PASSWORD.findall(printed)) == 1
        assert len(TOKEN.findall(printed)) == 1

    def test_makes_one_administrator_and_one_token(self, data_dir: Path, printed: str) -> None:
        assert rows(data_dir, "SELECT username, is_superuser FROM auth_user") == [("admin", 1)]
        (token,) = TOKEN.findall(printed)
        assert rows(data_dir, "SELECT digest FROM providers_accesstoken") == [
            (token_digest(token),)
        ]

    def test_prints_lines_to_paste(self, first_runs: list[Server], printed: str) -> None:
        for server in first_runs:
            assert f"export ANTHROPIC_BASE_URL={server.url}\n" in server.printed
        (token,) = TOKEN.findall(printed)
        assert f'export ANTHROPIC_CUSTOM_HEADERS="x-ccf-api-key: {token}"\n' in printed

    def test_lets_the_administrator_in_at_the_address_it_listens_on(
        self, first_runs: list[Server], printed: str
    ) -> None:
        with httpx.Client(base_url=first_runs[0].url, timeout=PATIENCE) as browser:
            login = browser.get("/admin/login/")
            assert login.status_code == 200
            answer = browser.post(
                "/admin/login/?next=/admin/",
                data={
                    "username": "admin",
                    "password": PASSWORD.findall(printed)[0],
                    "csrfmiddlewaretoken": browser.cookies["csrftoken"],
                },
            )
            assert (answer.status_code, answer.headers["location"]) == (302, "/admin/")
            assert "server" not in answer.headers
            # A reverse proxy on this machine is believed: those are the lines for its users.
            behind = {"x-forwarded-proto": "https"}
            page = browser.get("/admin/connect/", headers=behind).text
            assert (
                f"export ANTHROPIC_BASE_URL={first_runs[0].url.replace('http:', 'https:')}" in page
            )

    def test_serves_the_admins_static_files(self, first_runs: list[Server]) -> None:
        answer = httpx.get(f"{first_runs[0].url}/static/admin/css/base.css", timeout=PATIENCE)
        assert answer.status_code == 200


class TestALaterRun:
    def test_prints_no_secret_and_says_where_to_make_a_token(self, later_run: Server) -> None:
        assert not PASSWORD.search(later_run.printed)
        assert not TOKEN.search(later_run.printed)
        assert "x-ccf-api-key: <your token>" in later_run.printed

    def test_on_every_address_knows_the_names_of_this_machine(self, later_run: Server) -> None:
        port = later_run.bind.rpartition(":")[2]
        admin = re.findall(r"^Admin: (\S+)$", later_run.printed, re.MULTILINE)[0]
        for host in (
            f"127.0.0.1:{port}",
            f"{socket.gethostname()}:{port}",
            admin[7:].split("/")[0],
        ):
            answer = httpx.get(
                f"http://127.0.0.1:{port}/admin/login/", headers={"host": host}, timeout=PATIENCE
            )
            assert answer.status_code == 200, host
        stranger = {"host": "stranger.example"}
        answer = httpx.get(
            f"http://127.0.0.1:{port}/admin/login/", headers=stranger, timeout=PATIENCE
        )
        assert answer.status_code == 400

    def test_refuses_a_port_that_is_in_use(self, later_run: Server, data_dir: Path) -> None:
        assert failure(later_run.bind, data_dir) == (
            f"CommandError: {later_run.bind} is in use: stop what listens there, "
            "or choose another with --bind"
        )

    def test_stops_in_good_order_and_logs_nothing_but_json(self, later_run: Server) -> None:
        httpx.get(f"http://127.0.0.1:{later_run.bind.rpartition(':')[2]}/", timeout=PATIENCE)
        assert later_run.stop() == 0
        lines = later_run.log.read_text().splitlines()
        events = [json.loads(line) for line in lines]
        messages = [event.get("message", "") for event in events]
        assert any(message.startswith("Listening at") for message in messages)
        assert not any(message.startswith("Error") for message in messages)


def failure(bind: str, data_dir: Path, **variables: str) -> str:
    """The one line that `serve` fails with."""
    done = subprocess.run(
        command(bind),
        env=environment(data_dir, **variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode != 0
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def test_a_data_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = failure(f"127.0.0.1:{free_port()}", tmp_path / "file" / "data")
    assert line.startswith(f"manage.py: DATA_DIR {tmp_path}/file/data cannot be created")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GRACEFUL_TIMEOUT", "soon"),
        ("WEB_CONCURRENCY", "0"),
        ("LOG_QUEUE_SIZE", "-1"),
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "mysql://host/name"),
        ("BEHIND_PROXY", "ture"),
        ("TIME_ZONE", "Mars/Olympus"),
    ],
)
def test_a_bad_variable_is_one_line_that_names_it(name: str, value: str, tmp_path: Path) -> None:
    line = failure(f"127.0.0.1:{free_port()}", tmp_path / "data", **{name: value})
    assert line.startswith(f"manage.py: {name}: ")


def test_a_database_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    url = f"postgres://user:password@127.0.0.1:{free_port()}/name"
    line = failure(f"127.0.0.1:{free_port()}", tmp_path / "data", DATABASE_URL=url)
    assert line.startswith("CommandError: the database cannot be used: connection failed")
    assert "password" not in line


def test_a_closed_standard_output_creates_nothing(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command(f"127.0.0.1:{free_port()}"),
        env=environment(tmp_path / "data"),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    os.close(writer)
    assert done.returncode != 0
    assert done.stderr.splitlines() == [
        "CommandError: standard output is closed: new secrets have no reader"
    ]
    assert rows(tmp_path / "data", "SELECT * FROM auth_user") == []
    assert rows(tmp_path / "data", "SELECT * FROM providers_accesstoken") == []
