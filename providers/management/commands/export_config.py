"""Writes providers, tokens and settings to a JSON file."""

from __future__ import annotations

import json
import os
import stat
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from providers.database_command import DatabaseCommand
from providers.transfer.configuration import export_configuration, undecryptable_providers
from providers.transfer.document import REDACTED


class Command(DatabaseCommand):
    help = (
        "Write providers, tokens and settings as JSON, for import_config. "
        f'Keys and header values are written as "{REDACTED}": an import keeps the stored ones. '
        "Client tokens are written as SHA-256."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", nargs="?", default="-", help="default: standard output")
        parser.add_argument(
            "--with-secrets",
            action="store_true",
            help="write keys and header values in clear; the file is readable by its owner only",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        name, with_secrets = options["file"], options["with_secrets"]
        document = export_configuration(with_secrets=with_secrets)
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        if with_secrets:
            for provider in undecryptable_providers():
                self.stderr.write(
                    f"{provider}: its secrets cannot be decrypted with ENCRYPTION_KEY, "
                    "so they are not in the export"
                )
        if name == "-":
            self.stdout.write(text, ending="")
            return
        try:
            _write(name, text, private=with_secrets)
        except OSError as error:
            raise CommandError(f"{name}: {error.strerror}") from None


def _write(name: str, text: str, private: bool) -> None:
    mode = 0o600 if private else 0o666
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        # A file that was there before keeps its mode, unless we say so.
        if private and stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, mode)
        file.write(text)
