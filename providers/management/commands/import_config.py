"""Reads providers, tokens and settings from a JSON file."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from providers.database_command import DatabaseCommand
from providers.transfer.configuration import apply_import, plan_import
from providers.transfer.document import InvalidDocument, parse


class Command(DatabaseCommand):
    help = (
        "Import providers, tokens and settings from a JSON file: one written by export_config, "
        "or the providers of the Cloudflare Worker claude-code-fallback. Providers are matched "
        "by name; what the file does not mention stays. An invalid file changes nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help="the file, or - for standard input")
        parser.add_argument(
            "--replace",
            action="store_true",
            help="also remove the providers and tokens that the file does not list; "
            "the primary stays",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="only say what would change, or what is wrong"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["file"]
        run = plan_import if options["dry_run"] else apply_import
        try:
            plan = run(parse(_read(name)), replace=options["replace"])
        except OSError as error:
            raise CommandError(f"{name}: {error.strerror}") from None
        except InvalidDocument as error:
            raise CommandError(f"{name}: nothing was imported\n{error}") from None
        for line in [*plan.notes, *plan.changes]:
            self.stdout.write(line)
        if not plan.changes:
            self.stdout.write("Nothing to change.")
        elif options["dry_run"]:
            self.stdout.write("Dry run: nothing was changed.")


def _read(name: str) -> bytes:
    return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
