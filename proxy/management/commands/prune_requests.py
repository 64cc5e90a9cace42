"""Deletes old calls from the history."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone

from providers.database_command import DatabaseCommand
from proxy.history.retention import prune

DEFAULT_BATCH = 10_000


class Command(DatabaseCommand):
    help = "Delete the calls that are older than a number of days, with their attempts."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--days", type=int, required=True, help="keep this many; 0 deletes the whole history"
        )
        parser.add_argument(
            "--batch",
            type=int,
            default=DEFAULT_BATCH,
            help=f"calls a transaction; between two of them others may write "
            f"(default: {DEFAULT_BATCH})",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["days"] < 0:
            raise CommandError("--days must not be negative")
        if options["batch"] < 1:
            raise CommandError("--batch must be at least 1")
        try:
            before = timezone.now() - timedelta(days=options["days"])
        except OverflowError:
            raise CommandError("--days: that is before the calendar begins") from None
        count = prune(before, options["batch"])
        self.stdout.write(f"{count} {'call' if count == 1 else 'calls'} deleted.")
