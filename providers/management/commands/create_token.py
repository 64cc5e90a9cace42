"""Makes a client token."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from providers.client_setup import DEFAULT_URL, export_lines, public_url
from providers.database_command import DatabaseCommand
from providers.models import AccessToken


class Command(DatabaseCommand):
    help = "Make a client token and print it, once: only its hash is kept."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--note", required=True, help="who or what will use it")
        parser.add_argument("--quiet", action="store_true", help="print nothing but the token")
        parser.add_argument(
            "--url",
            default=public_url(DEFAULT_URL),
            help="address of the proxy, for the lines to paste (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        note = options["note"].strip()
        try:
            AccessToken(note=note).full_clean(exclude={"digest"})
        except ValidationError as error:
            raise CommandError(f"--note: {error.messages[0]}") from None
        _, token = AccessToken.issue(note)
        self.stdout.write(token)
        if not options["quiet"]:
            self.stdout.write("\nIt is not shown again. In the shell that runs Claude Code:\n\n")
            for line in export_lines(options["url"], token):
                self.stdout.write(line)
