"""What a first run makes, for whom, and where it may be reached: the parts of `serve`."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from fallbackproxy.logs import DeliberateAborts
from fallbackproxy.worker import LIFESPAN_MARGIN, Worker
from providers.models import AccessToken
from proxy.first_run import Created, greeting, prepare
from proxy.listening import Bind, BindError, allowed_hosts, listen, own_addresses, parse_bind

BINDS = {
    "127.0.0.1:8787": ("127.0.0.1", 8787),
    "192.168.1.5": ("192.168.1.5", 8787),
    "Box.local:80": ("box.local", 80),
    "8000": ("127.0.0.1", 8000),
    ":8000": ("0.0.0.0", 8000),
    "0.0.0.0:1": ("0.0.0.0", 1),
    "[::1]:65535": ("::1", 65535),
    "[::]": ("::", 8787),
}


@pytest.mark.parametrize(("text", "expected"), BINDS.items(), ids=BINDS.keys())
def test_an_address_may_be_written_in_many_ways(text: str, expected: tuple[str, int]) -> None:
    assert parse_bind(text) == Bind(*expected)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "::1", "::1:8787", "[x]:1", "[::1", "[127.0.0.1]:80", "[]:80", "a:b", "a b:80"),
        *("host:0", "host:65536", "99999", "*:80", "http://host:80", "unix:/socket", "²:80", "٣"),
    ],
)
def test_what_is_no_address_is_an_error_that_names_it(text: str) -> None:
    with pytest.raises(BindError, match=r"^--bind .*:"):
        parse_bind(text)


@pytest.mark.parametrize("text", ["127.0.0.1:8787", "[::1]:80", "[::]:1", "name:2"])
def test_an_address_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_bind(text)) == text


class TestListening:
    def test_holds_the_port_at_once(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            bind = Bind("127.0.0.1", probe.getsockname()[1])
        with listen(bind) as first:
            assert first.getsockname() == (bind.host, bind.port)
            with pytest.raises(BindError, match=rf"^{bind} is in use"):
                listen(bind)
        listen(bind).close()

    @pytest.mark.parametrize(
        ("host", "error"),
        [
            ("198.51.100.7", "198.51.100.7:8787 is not an address of this machine"),
            ("nowhere.invalid", "nowhere.invalid:8787: the host 'nowhere.invalid' is unknown"),
            ("a" * 300, f"{'a' * 300}:8787: the host '{'a' * 300}' is unknown"),
        ],
    )
    def test_elsewhere_is_refused(self, host: str, error: str) -> None:
        with pytest.raises(BindError) as raised:
            listen(Bind(host, 8787))
        assert str(raised.value) == error


class TestAllowedHosts:
    def test_of_a_loopback_address_are_this_machine_alone(self) -> None:
        assert allowed_hosts(Bind("127.0.0.1", 1)) == ["localhost", "127.0.0.1", "[::1]"]
        assert allowed_hosts(Bind("127.0.0.2", 1))[-1] == "127.0.0.2"

    def test_of_one_address_are_that_and_the_machines_name(self) -> None:
        hosts = allowed_hosts(Bind("10.1.2.3", 1))
        assert {"localhost", "10.1.2.3", socket.gethostname().lower()} <= {*hosts}
        assert "[fd00::1]" in allowed_hosts(Bind("fd00::1", 1))

    @pytest.mark.parametrize("wildcard", ["0.0.0.0", "::"])
    def test_of_every_address_are_all_of_this_machine(
        self, wildcard: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("proxy.listening._outgoing", lambda: iter(["10.0.0.9", "fd00::9"]))
        monkeypatch.setattr(
            "proxy.listening._of_interfaces", lambda: iter(["10.0.0.9", "10.8.0.1"])
        )
        hosts = allowed_hosts(Bind(wildcard, 1))
        assert {"10.0.0.9", "[fd00::9]", "10.8.0.1", "localhost"} <= {*hosts}
        assert "*" not in hosts and wildcard not in hosts
        assert len(hosts) == len({*hosts})
        assert Bind(wildcard, 8787).url == "http://10.0.0.9:8787"

    def test_are_still_something_where_the_system_tells_nothing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unknown() -> Any:
            raise OSError

        for source in ("_outgoing", "_of_interfaces", "_of_name"):
            monkeypatch.setattr(f"proxy.listening.{source}", unknown)
        assert list(own_addresses()) == []
        assert "127.0.0.1" in allowed_hosts(Bind("0.0.0.0", 1))
        assert Bind("0.0.0.0", 8787).url == "http://127.0.0.1:8787"


@pytest.mark.django_db
class TestSettingUp:
    @pytest.fixture(autouse=True)
    def _directories(self, settings: Any, tmp_path: Path) -> None:
        settings.DATA_DIR = tmp_path
        settings.STATIC_ROOT = tmp_path / "static"

    def run(self, **environ: str) -> Created:
        created: list[Created] = []
        prepare(environ, created.append)
        return created[0]

    def test_makes_an_administrator_and_a_token_once(self) -> None:
        first, second = self.run(), self.run()
        assert User.objects.get(username="admin").check_password(first.password)
        assert AccessToken.objects.get().hint == first.token[-4:]
        assert second == Created()

    def test_takes_the_administrator_from_the_environment(self) -> None:
        created = self.run(
            DJANGO_SUPERUSER_USERNAME="ada",
            DJANGO_SUPERUSER_PASSWORD="engine",
            DJANGO_SUPERUSER_EMAIL="ada@example.com",
        )
        user = User.objects.get()
        assert (user.username, user.email, user.is_superuser) == ("ada", "ada@example.com", True)
        assert user.check_password("engine")
        assert created.password == ""
        assert "engine" not in greeting(created, "http://x")

    def test_makes_nobody_an_administrator_who_is_none(self) -> None:
        User.objects.create_user("admin", password="theirs")
        created = self.run()
        assert created.warning.startswith("There is no administrator, and admin is an ordinary")
        assert User.objects.get().is_superuser is False

    def test_keeps_nothing_that_could_not_be_shown(self) -> None:
        def announce(created: Created) -> None:
            raise BrokenPipeError

        with pytest.raises(BrokenPipeError):
            prepare({}, announce)
        assert not User.objects.exists()
        assert not AccessToken.objects.exists()

    def test_collects_static_files_that_are_missing_only(self, tmp_path: Path) -> None:
        self.run()
        file = tmp_path / "static" / "admin" / "css" / "base.css"
        before = file.stat().st_mtime_ns
        self.run()
        assert file.stat().st_mtime_ns == before


def test_an_aborted_stream_is_no_error_in_the_log() -> None:
    def passes(message: str) -> bool:
        record = logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, message, None, None)
        return bool(DeliberateAborts().filter(record))

    assert not passes("ASGI callable returned without completing response.")
    assert passes("ASGI callable returned without starting response.")
    assert any(isinstance(f, DeliberateAborts) for f in logging.getLogger("uvicorn.error").filters)


def test_the_worker_lets_calls_end_before_gunicorn_kills_it() -> None:
    assert LIFESPAN_MARGIN > 0
    assert Worker.CONFIG_KWARGS["timeout_graceful_shutdown"] == 30
    assert Worker.CONFIG_KWARGS["lifespan"] == "on"
