"""The proxy as it is installed: processes of its own, filled as a week of work would leave it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

from django.conf import settings

from tests.browser.demo import PASSWORD

PATIENCE = 40.0


class Installation:
    """`with Installation(directory) as installation:` serves at `installation.url`."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.bind = f"127.0.0.1:{probe.getsockname()[1]}"
        self.url = f"http://{self.bind}"
        self.log = directory / "server.log"
        left_out = ("ALLOWED_HOSTS", "DATABASE_URL", "SECRET_KEY", "ENCRYPTION_KEY", "TIME_ZONE")
        self._environment = {
            **{name: value for name, value in os.environ.items() if name not in left_out},
            "DATA_DIR": str(directory / "data"),
            "DJANGO_SETTINGS_MODULE": "fallbackproxy.settings",
            "DJANGO_SUPERUSER_USERNAME": "admin",
            "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
            "WEB_CONCURRENCY": "1",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Installation:
        fill = "import time, django; django.setup(); from tests.browser import demo; "
        self._run("manage.py", "migrate", "--verbosity", "0")
        self._run("-c", f"{fill}demo.fill(time.time())")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "serve", "--bind", self.bind],
                cwd=settings.BASE_DIR,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _run(self, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, *arguments],
            cwd=settings.BASE_DIR,
            env=self._environment,
            check=True,
            timeout=PATIENCE,
        )

    def _wait(self) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                died = self._process is None or self._process.poll() is not None
                if died or time.monotonic() > end:
                    raise AssertionError(self.log.read_text()) from None
                time.sleep(0.1)

    def _stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
