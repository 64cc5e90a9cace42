"""A command that works on the database, and says in one line what is wrong with it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError, connection


class DatabaseCommand(BaseCommand):
    """Turns a database that is not there, or has no tables yet, into a `CommandError`."""

    def run_from_argv(self, argv: list[str]) -> None:
        # A pool would try again for half a minute, and log every time, before it says no.
        # A process of its own needs none; one that calls the command may be using it.
        connection.settings_dict["OPTIONS"].pop("pool", None)
        super().run_from_argv(argv)

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except (OperationalError, ProgrammingError) as error:
            reason = str(error).strip().splitlines()[0]
            raise CommandError(
                f"the database: {reason}. Is it reachable, and up to date? "
                "manage.py serve sets it up, and so does manage.py migrate."
            ) from None
