#!/usr/bin/env python3
"""Starts the proxy as the README says and calls it as a client does: first provider refuses,
second one streams. With --nginx, nginx stands in front of it with deploy/nginx.conf and TLS.

    end_to_end.py --directory CLEAN_CHECKOUT --command README_COMMAND [--nginx NGINX]
                  [--database-url URL]

Needs the standard library alone, and openssl for --nginx. What it has started, it ends by
its process id.
"""

from __future__ import annotations

import argparse
import getpass
import http.client
import json
import os
import re
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fake_provider import Overloaded, Streaming

INSTALL_SECONDS = 400
START_SECONDS = 60
CONFIGURED_SECONDS = 20
STOP_SECONDS = 50
HISTORY_SECONDS = 15

CLIENT_KEY = "sk-ant-api03-client-" + secrets.token_hex(16)
PROVIDER_KEY = "sk-provider-" + secrets.token_hex(16)
PROMPT = "prompt-" + secrets.token_hex(16)
PASSWORD = secrets.token_urlsafe(16)

# What would lead the proxy elsewhere than to the clean directory and its defaults.
UNWANTED = frozenset(
    [
        "ALLOWED_HOSTS",
        "ALLOW_ANONYMOUS",
        "BEHIND_PROXY",
        "DATABASE_URL",
        "DATA_DIR",
        "DEBUG",
        "DJANGO_SETTINGS_MODULE",
        "ENCRYPTION_KEY",
        "GRACEFUL_TIMEOUT",
        "LOG_LEVEL",
        "PYTHONPATH",
        "SECRET_KEY",
        "VIRTUAL_ENV",
        "WEB_CONCURRENCY",
    ]
)


class Failed(Exception):
    """A check does not hold."""


def check(holds: object, otherwise: str) -> None:
    if not holds:
        raise Failed(otherwise)


def say(text: str) -> None:
    print(f"    {text}", flush=True)


# --- the proxy ----------------------------------------------------------------


@dataclass(frozen=True)
class Installation:
    """A clean checkout, and the environment in which its commands run."""

    directory: Path
    environment: dict[str, str]

    def manage(self, *arguments: str, stdin: str = "", **extra: str) -> str:
        """What `manage.py ARGUMENTS` prints. `extra`: environment variables."""
        command = [str(self.directory / ".venv/bin/python"), "manage.py", *arguments]
        result = subprocess.run(
            command,
            cwd=self.directory,
            env={**self.environment, **extra},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        check(result.returncode == 0, f"manage.py {' '.join(arguments)}: {result.stderr}")
        return result.stdout

    def configure(self, overloaded: Overloaded, streaming: Streaming) -> str:
        """Two providers; returns a new client token."""
        names = {"claude-whole": "whole", "claude-cut": "cut", "claude-endless": "endless"}
        fallback = {
            "name": "second",
            "baseUrl": streaming.url,
            "apiKey": PROVIDER_KEY,
            "modelMapping": names,
        }
        document = {
            "primary": {"baseUrl": overloaded.url},
            "providers": [fallback],
            # The provider that refuses is asked every time.
            "settings": {"cooldownDuration": 0},
        }
        self.manage("import_config", "-", stdin=json.dumps(document))
        return self.manage("create_token", "--note", "end to end", "--quiet").strip()

    def history(self) -> tuple[dict[str, dict[str, Any]], str]:
        """The calls by request id, each with the list of its attempts; and all of it as text."""
        dump = self.manage("dumpdata", "proxy.RequestLog", "proxy.Attempt")
        rows = json.loads(dump)
        calls = {
            row["pk"]: {**row["fields"], "attempts": []}
            for row in rows
            if row["model"] == "proxy.requestlog"
        }
        for row in rows:
            if row["model"] == "proxy.attempt":
                calls[row["fields"]["call"]]["attempts"].append(row["fields"])
        return {call["request_id"]: call for call in calls.values()}, dump


@contextmanager
def running(
    command: list[str], directory: Path, environment: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own. What is left of the group at the end is killed."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    except BaseException:
        print(log.read_text(errors="replace")[-8000:], file=sys.stderr)
        raise
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def wait_until_served(client: Client, process: subprocess.Popen[bytes], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        check(process.poll() is None, f"it has ended with status {process.returncode}")
        try:
            if client.request("GET", "/healthz")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise Failed(f"nothing serves at {client.origin} after {seconds:.0f} s")


def wait_until_configured(client: Client) -> None:
    """Workers look for changes once a second, each by itself: all have to know our token."""
    end = time.monotonic() + CONFIGURED_SECONDS
    known_since = time.monotonic()
    while time.monotonic() - known_since < 2:
        status = client.request("GET", "/v1/ccf/status", headers=client.identity)[0]
        if status != 200:
            known_since = time.monotonic()
        check(time.monotonic() < end, f"the new token is not known: status {status}")
        time.sleep(0.05)


def stop(process: subprocess.Popen[bytes], what: str) -> None:
    """Ask it to end, as a service manager does; it has to do so in good order."""
    process.terminate()
    try:
        status = process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        raise Failed(f"{what} has not ended {STOP_SECONDS} s after SIGTERM") from None
    check(status == 0, f"{what} ended with status {status} after SIGTERM")


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- nginx --------------------------------------------------------------------


def nginx_configuration(site: str, folder: Path, port: int, upstream_port: int) -> str:
    """deploy/nginx.conf with TLS on, on other ports, in a configuration that stays in `folder`."""
    changes = {
        r"server 127\.0\.0\.1:8787;": f"server 127.0.0.1:{upstream_port};",
        r"listen 80;": "",
        r"listen \[::\]:80;": "",
        r"# listen 443 ssl http2;": f"listen 127.0.0.1:{port} ssl http2;",
        r"# ssl_certificate +\S+;": f"ssl_certificate {folder}/certificate.pem;",
        r"# ssl_certificate_key +\S+;": f"ssl_certificate_key {folder}/key.pem;",
        r"# add_header (.+)": r"add_header \2",
    }
    for old, new in changes.items():
        site, count = re.subn(rf"^( +){old}$", rf"\g<1>{new}", site, flags=re.MULTILINE)
        check(count == 1, f"deploy/nginx.conf: {count} lines are like {old!r}, expected one")
    temporary = "".join(
        f"    {kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off;\nuser {getpass.getuser()};\npid {folder}/pid;\n"
        f"error_log {folder}/error.log;\nevents {{}}\n"
        # As Debian has it: replies are compressed unless the site says otherwise.
        f"http {{\n    access_log {folder}/access.log;\n    gzip on;\n{temporary}\n{site}}}\n"
    )


def make_certificate(folder: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=127.0.0.1"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def nginx_before(
    nginx: str, site: Path, upstream_port: int
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """nginx in front of the proxy; its port."""
    with tempfile.TemporaryDirectory(prefix="fallbackproxy-nginx-") as name:
        folder, port = Path(name), free_port()
        make_certificate(folder)
        configuration = folder / "nginx.conf"
        configuration.write_text(nginx_configuration(site.read_text(), folder, port, upstream_port))
        command = [nginx, "-p", name, "-e", str(folder / "error.log"), "-c", str(configuration)]
        with running(command, folder, dict(os.environ), folder / "output") as process:
            yield port, process


# --- the client -----------------------------------------------------------------


class Client:
    """What Claude Code sends, in as far as it matters here."""

    def __init__(self, port: int, token: str, *, tls: bool = False) -> None:
        self.origin = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        self.identity = {"x-ccf-api-key": token}
        self._port = port
        self._tls = tls

    def _connect(self) -> http.client.HTTPConnection:
        if not self._tls:
            return http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        # The certificate was made for this run, and nobody has signed it.
        context = ssl._create_unverified_context()
        return http.client.HTTPSConnection("127.0.0.1", self._port, timeout=30, context=context)

    def request(
        self, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Any request: status, headers and body of the reply."""
        with closing(self._connect()) as connection:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    @contextmanager
    def stream(self, model: str) -> Iterator[tuple[str, http.client.HTTPResponse]]:
        """A streamed call: its request id, and the reply."""
        request_id = f"end-to-end-{secrets.token_hex(8)}"
        body = {
            "model": model,
            "max_tokens": 64,
            "stream": True,
            "messages": [{"role": "user", "content": PROMPT}],
        }
        headers = {
            "content-type": "application/json",
            "anthropic-version": "2023-06-01",
            "accept-encoding": "gzip, deflate",
            "x-api-key": CLIENT_KEY,
            "ccr-request-id": request_id,
            **self.identity,
        }
        with closing(self._connect()) as connection:
            connection.request("POST", "/v1/messages?beta=true", json.dumps(body), headers)
            response = connection.getresponse()
            if response.status != 200:
                raise Failed(f"status {response.status}: {response.read()!r}")
            yield request_id, response


def read_until(response: http.client.HTTPResponse, words: bytes) -> bytes:
    """What has come when `words` are among it."""
    data = b""
    while words not in data:
        chunk = response.read1(65536)
        check(chunk, f"the stream ended before {words!r}: {data!r}")
        data += chunk
    return data


def read_to_end(response: http.client.HTTPResponse) -> tuple[bytes, bool]:
    """The rest of a reply, and whether it came to a proper end."""
    data = b""
    try:
        while chunk := response.read1(65536):
            data += chunk
    except (http.client.IncompleteRead, ConnectionError):
        return data, False
    return data, True


# --- the checks -----------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """Everything a check needs."""

    installation: Installation
    client: Client
    overloaded: Overloaded
    streaming: Streaming

    def recorded(self, request_id: str) -> dict[str, Any]:
        """The call's row in the history; it is written behind the call's back."""
        end = time.monotonic() + HISTORY_SECONDS
        while time.monotonic() < end:
            calls, dump = self.installation.history()
            if request_id in calls:
                for secret in (PROMPT, CLIENT_KEY, PROVIDER_KEY):
                    check(secret not in dump, f"{secret[:8]}... is in the history")
                return calls[request_id]
            time.sleep(0.2)
        raise Failed(f"call {request_id} is not in the history after {HISTORY_SECONDS} s")


def a_call_falls_over_and_streams(scene: Scene) -> None:
    streaming = scene.streaming
    streaming.client_has_read.clear()
    streaming.went_on.clear()
    with scene.client.stream("claude-whole") as (request_id, response):
        trail = response.getheader("x-ccf-attempts")
        check(trail == "anthropic-primary=529,second=200", f"x-ccf-attempts: {trail}")
        encoding = response.getheader("content-encoding")
        check(encoding is None, f"the stream is compressed: {encoding}")
        data = read_until(response, b"content_block_start")
        check(
            not streaming.went_on.is_set(),
            "the first event arrived only after the provider had sent the second",
        )
        say("the first event arrived before the provider had sent the second")
        streaming.client_has_read.set()
        rest, ended = read_to_end(response)
    check(ended and (data + rest).endswith(b"\n\n"), f"no proper end: {rest!r}")
    check(b"message_stop" in rest and b"Hello" in rest, f"not the whole stream: {rest!r}")

    headers, body = streaming.requests[-1]
    check(headers["x-api-key"] == PROVIDER_KEY, "the provider was not called with its own key")
    check(CLIENT_KEY not in str(headers), "the client's key went to another provider")
    check(body["model"] == "whole", "the model was not mapped")
    first_headers, _ = scene.overloaded.requests[-1]
    check(first_headers["x-api-key"] == CLIENT_KEY, "the primary has not got the client's key")
    added = [n for n in (*headers, *first_headers) if n.startswith(("x-forwarded", "x-real"))]
    check(not added, f"providers were told {added}")

    call = scene.recorded(request_id)
    check(call["outcome"] == "answered" and call["status"] == 200, f"history: {call}")
    check(call["provider"] == "second" and call["fell_back"], f"history: {call}")
    check((call["input_tokens"], call["output_tokens"]) == (11, 7), f"history: {call}")
    attempts = [(attempt["provider"], attempt["result"]) for attempt in call["attempts"]]
    check(attempts == [("anthropic-primary", "529"), ("second", "200")], f"history: {attempts}")
    say("the history has the call and both attempts, and no secret")


def a_stream_that_dies_is_aborted(scene: Scene) -> None:
    with scene.client.stream("claude-cut") as (request_id, response):
        data, ended = read_to_end(response)
    check(b"Half an ans" in data, f"what came before is missing: {data!r}")
    check(data.endswith(b"\n\n"), f"the abort is not behind a whole event: {data!r}")
    check(not ended, "the client was told that the stream is complete")
    outcome = scene.recorded(request_id)["outcome"]
    check(outcome == "broken", f"the history says {outcome!r}")
    say("a stream that died is aborted, behind its last whole event")


def a_client_that_leaves_ends_the_call(scene: Scene) -> None:
    scene.streaming.abandoned.clear()
    with scene.client.stream("claude-endless") as (request_id, response):
        read_until(response, b"and so on")
    check(scene.streaming.abandoned.wait(8), "the provider still streams, and nobody reads")
    outcome = scene.recorded(request_id)["outcome"]
    check(outcome == "cancelled", f"the history says {outcome!r}")
    say("a client that left has ended the call at the provider")


def a_browser_can_log_in(scene: Scene) -> None:
    """The login form, as a browser sends it: cookies, Referer, Origin."""
    name = f"user-{secrets.token_hex(4)}"
    scene.installation.manage(
        "createsuperuser",
        "--noinput",
        DJANGO_SUPERUSER_USERNAME=name,
        DJANGO_SUPERUSER_EMAIL="user@example.com",
        DJANGO_SUPERUSER_PASSWORD=PASSWORD,
    )
    client, page = scene.client, "/admin/login/?next=/admin/proxy/requestlog/"
    status, headers, _ = client.request("HEAD", "/")
    check(status == 200, f"HEAD /: status {status}")
    status, headers, _ = client.request("GET", "/static/admin/css/base.css")
    check(status == 200, f"static files: status {status}")
    status, headers, body = client.request("GET", page)
    found = re.search(rb'name="csrfmiddlewaretoken" value="([^"]+)"', body)
    check(status == 200 and found, f"login page: status {status}")
    assert found
    form = {"csrfmiddlewaretoken": found[1].decode(), "username": name, "password": PASSWORD}
    browser = {
        "content-type": "application/x-www-form-urlencoded",
        "cookie": cookies(headers),
        "origin": client.origin,
        "referer": client.origin + page,
    }
    status, headers, body = client.request("POST", page, urllib.parse.urlencode(form), browser)
    check(status == 302, f"login: status {status}: {body[:500]!r}")
    status, _, body = client.request(
        "GET", headers["location"], headers={"cookie": cookies(headers)}
    )
    check(status == 200 and b"logout" in body, f"history page: status {status}")
    say("a browser can log in to the admin")


def cookies(headers: http.client.HTTPMessage) -> str:
    """The cookies of a reply, for the next request."""
    return "; ".join(line.split(";")[0] for line in headers.get_all("set-cookie") or ())


CHECKS: tuple[Callable[[Scene], None], ...] = (
    a_call_falls_over_and_streams,
    a_stream_that_dies_is_aborted,
    a_client_that_leaves_ends_the_call,
    a_browser_can_log_in,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--command", required=True)
    parser.add_argument("--nginx")
    parser.add_argument("--database-url")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run(options.directory.resolve(), options.command, options.nginx, options.database_url)
    except Failed as failure:
        sys.exit(f"end to end: {failure}")


def run(directory: Path, command: str, nginx: str | None, database_url: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    environment["no_proxy"] = environment["NO_PROXY"] = "127.0.0.1"
    environment["PIP_QUIET"] = "2"
    if database_url:
        environment["DATABASE_URL"] = database_url
    if nginx:
        environment.update(BEHIND_PROXY="true", ALLOWED_HOSTS="127.0.0.1")
    installation = Installation(directory, environment)
    port = free_port()
    log = directory.with_name(f"{directory.name}-serve.log")
    with ExitStack() as stack:
        overloaded, streaming = Overloaded(), Streaming()
        stack.callback(overloaded.close)
        stack.callback(streaming.close)
        # The command as it is, on a port that is free here.
        shell = ["bash", "-c", f"{command} --bind 127.0.0.1:{port}"]
        proxy = stack.enter_context(running(shell, directory, environment, log))
        wait_until_served(Client(port, ""), proxy, INSTALL_SECONDS)
        say(f"`{command}` serves")
        token = installation.configure(overloaded, streaming)
        client = Client(port, token)
        wait_until_configured(client)
        if nginx:
            site = directory / "deploy/nginx.conf"
            entrance, server = stack.enter_context(nginx_before(nginx, site, port))
            client = Client(entrance, token, tls=True)
            wait_until_served(client, server, START_SECONDS)
            say("nginx is in front of it, with deploy/nginx.conf")
        scene = Scene(installation, client, overloaded, streaming)
        for holds in CHECKS:
            holds(scene)
        if nginx:
            stop(server, "nginx")
        stop(proxy, "serve")
        say("SIGTERM ends it in good order")
        output = log.read_text(errors="replace")
        for secret in (PROMPT, CLIENT_KEY, PROVIDER_KEY):
            check(secret not in output, f"{secret[:8]}... is in the log")
        check("Traceback" not in output, f"a traceback is in the log: {output[-8000:]}")


if __name__ == "__main__":
    main()
