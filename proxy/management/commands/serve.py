"""Sets up what is missing and becomes the server."""

from __future__ import annotations

import logging
import os
import socket
import sys
from argparse import ArgumentParser
from typing import Any, NoReturn

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from django.db import connection, connections

from providers.client_setup import public_url
from proxy.first_run import Created, greeting, prepare
from proxy.listening import DEFAULT_BIND, Bind, BindError, allowed_hosts, listen, parse_bind

# Socket activation: the first socket that a server is handed has this number.
_FIRST_SOCKET = 3


class Command(BaseCommand):
    help = "Start the proxy. The first run makes an administrator and a client token."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--bind", default=DEFAULT_BIND, help=f"HOST:PORT to listen on (default: {DEFAULT_BIND})"
        )
        parser.add_argument(
            "--workers", type=int, help="processes (default: WEB_CONCURRENCY, or one a core)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["workers"] is not None and options["workers"] < 1:
            raise CommandError("--workers must be at least 1")
        try:
            bind = parse_bind(options["bind"])
            listener = listen(bind)
            self._prepare(bind)
            _become_gunicorn(bind, listener, options["workers"])
        except BindError as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            sys.exit(130)

    def _prepare(self, bind: Bind) -> None:
        def announce(created: Created) -> None:
            if created.warning:
                self.stderr.write(created.warning)
            self.stdout.write(greeting(created, public_url(bind.url)))
            self.stdout.flush()

        # A pool would try again for half a minute, and log every time, before it says no.
        connection.settings_dict["OPTIONS"].pop("pool", None)
        try:
            prepare(os.environ, announce)
        except BrokenPipeError:
            # Python would complain once more when it flushes at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise CommandError("standard output is closed: new secrets have no reader") from None
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from None
        except DatabaseError as error:
            first_line = str(error).strip().partition("\n")[0]
            raise CommandError(f"the database cannot be used: {first_line}") from None


def _become_gunicorn(bind: Bind, listener: socket.socket, workers: int | None) -> NoReturn:
    if not os.environ.get("ALLOWED_HOSTS"):
        os.environ["ALLOWED_HOSTS"] = ",".join(allowed_hosts(bind))
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
    configuration = settings.BASE_DIR / "fallbackproxy" / "gunicorn.conf.py"
    command = [sys.executable, "-m", "gunicorn", "-c", str(configuration), "-b", str(bind)]
    if workers is not None:
        command += ["-w", str(workers)]
    connections.close_all()
    logging.shutdown()
    sys.stdout.flush()
    listener.set_inheritable(True)
    os.dup2(listener.fileno(), _FIRST_SOCKET)
    os.execv(sys.executable, [*command, "fallbackproxy.asgi:application"])  # noqa: S606
