"""One unmistakable value for each kind of secret, and the places where none may turn up."""

from __future__ import annotations

import io
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from django.conf import settings
from django.db import connection
from django.test import override_settings

from fallbackproxy.logs import BackgroundStderr

PROMPT = "the zanzibar canary sings at midnight"
TALKATIVE = ["httpx", "httpcore", "uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "ccf"]
TALKATIVE += ["django", "django.request", "django.server", "django.db", "django.db.backends"]


@dataclass(frozen=True)
class Canaries:
    """Values by kind. Some look like keys and some do not, so that neither kind is guessed."""

    api_key: str = "sk-ant-api03-qqClientKeyCanary-AAAA1111"
    oauth_token: str = "sk-ant-oat01-qqOauthTokenCanary-BBBB2222"
    cookie: str = "qqCookieCanary"
    provider_key: str = "qqProviderKeyCanary"
    other_provider_key: str = "sk-or-v1-qqRouterCanary33"
    extra_header: str = "qq extra header canary"
    prompt: str = PROMPT
    token: str = field(default="")
    """The proxy's own, which is made at random."""

    def found_in(self, text: str) -> list[str]:
        """Which kinds turn up in a text, whole or but for their ends."""
        text = text.lower()
        return [kind for kind, value in vars(self).items() if value and _core(value) in text]


def _core(value: str) -> str:
    return value[len(value) // 4 : -len(value) // 5].lower()


def whole_database() -> str:
    """Every column of every row of every table, as it lies on the disk."""
    assert connection.vendor == "sqlite"
    with closing(sqlite3.connect(settings.DATABASES["default"]["NAME"])) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        rows = [row for (name,) in tables for row in database.execute(f'SELECT * FROM "{name}"')]
    return "\n".join(str(value) for row in rows for value in row)


@contextmanager
def everything_logged() -> Iterator[io.StringIO]:
    """What goes to stderr while every logger says all it can."""
    handler = next(h for h in logging.getLogger().handlers if isinstance(h, BackgroundStderr))
    loggers = [logging.getLogger(name) for name in (None, *TALKATIVE)]
    before = [(logger, logger.level) for logger in loggers]
    handler.drain()
    stderr, old = io.StringIO(), handler._stream
    handler._stream = stderr
    try:
        for logger in loggers:
            logger.setLevel(logging.DEBUG)
        with override_settings(DEBUG=True):  # Django logs its SQL, parameters and all
            yield stderr
    finally:
        for logger, level in before:
            logger.setLevel(level)
        handler.drain()
        handler._stream = old
