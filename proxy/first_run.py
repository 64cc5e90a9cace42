"""What an installation needs before it serves: tables, static files, an administrator, a token."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection, transaction

from providers.client_setup import export_lines
from providers.models import AccessToken

DEFAULT_USERNAME = "admin"
FIRST_TOKEN_NOTE = "first token"  # noqa: S105
# Any number that nobody else uses: it names the lock on Postgres.
_ADVISORY_LOCK = 878_787_001


@dataclass(frozen=True, slots=True)
class Created:
    """What a first run has made. Empty: it was there, or (the password) is known already."""

    username: str = ""
    password: str = ""
    token: str = ""
    warning: str = ""


def prepare(environ: Mapping[str, str], announce: Callable[[Created], None]) -> None:
    """Bring the database and the static files up to date, and make what a first run needs.

    `announce` prints the new secrets. It is called before they are committed: what could
    not be shown to anybody does not exist afterwards.
    """
    with setup_lock():
        call_command("migrate", interactive=False, verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        with transaction.atomic():
            username, password, warning = _create_administrator(environ)
            announce(Created(username, password, _create_first_token(), warning))


@contextmanager
def setup_lock() -> Iterator[None]:
    """One set-up at a time: on this machine, and on a Postgres that is shared."""
    path = Path(settings.DATA_DIR) / "setup.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with _postgres_lock():
            yield
    finally:
        os.close(descriptor)


@contextmanager
def _postgres_lock() -> Iterator[None]:
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_ADVISORY_LOCK])
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_ADVISORY_LOCK])


def _create_administrator(environ: Mapping[str, str]) -> tuple[str, str, str]:
    """The name of a new administrator, a password nobody knows yet, a warning."""
    users = get_user_model().objects
    if users.filter(is_superuser=True).exists():
        return "", "", ""
    username = environ.get("DJANGO_SUPERUSER_USERNAME") or DEFAULT_USERNAME
    if users.filter(username=username).exists():
        # Making somebody an administrator is not for us to decide.
        return (
            "",
            "",
            f"There is no administrator, and {username} is an ordinary user. Run createsuperuser.",
        )
    given = environ.get("DJANGO_SUPERUSER_PASSWORD", "")
    password = given or secrets.token_urlsafe(12)
    users.create_superuser(username, environ.get("DJANGO_SUPERUSER_EMAIL", ""), password)
    return username, "" if given else password, ""


def _create_first_token() -> str:
    if AccessToken.objects.exists():
        return ""
    return AccessToken.issue(FIRST_TOKEN_NOTE)[1]


def greeting(created: Created, url: str) -> str:
    """What `serve` tells its user. Holds a secret only when that has just been made."""
    lines = [f"Admin: {url}/admin/"]
    if created.username:
        lines.append(f"Administrator: {created.username}")
    if created.password:
        lines.append(f"Password: {created.password} (shown only now)")
    if created.token:
        lines += ["", "In the shell that runs Claude Code (the token is shown only now):", ""]
        lines += export_lines(url, created.token)
    else:
        lines += ["", "In the shell that runs Claude Code:", "", *export_lines(url)]
        lines += ["", "A new token: manage.py create_token --note NOTE, or in the admin."]
    return "\n".join(["", *lines, "", ""])
