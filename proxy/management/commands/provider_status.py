"""The health of every provider, on the terminal."""

from __future__ import annotations

import json
import time
from typing import Any

from django.core.management.base import CommandParser

from providers.database_command import DatabaseCommand
from providers.health import HealthTable
from providers.health_store import read_rows
from providers.loading import load_snapshot
from providers.models import Provider
from proxy.status import provider_lines, unasked_line


class Command(DatabaseCommand):
    help = "Show which providers are healthy, which are cooling down, and when they return."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON instead of text")

    def handle(self, *args: Any, **options: Any) -> None:
        snapshot, table, now = load_snapshot(), HealthTable(), time.time()
        table.load(read_rows(), snapshot.settings, now)
        asked = provider_lines(snapshot.providers, table, snapshot.settings, now)
        by_name = {line["name"]: line for line in asked}
        rows = Provider.objects.order_by("position", "pk").values_list("name", "enabled")
        lines = [by_name.get(name) or unasked_line(name, enabled=on) for name, on in rows]
        if options["json"]:
            self.stdout.write(json.dumps(lines, indent=2))
            return
        for line in lines:
            self.stdout.write(f"{line['name']:<30} {_words(line)}")
        if not asked:
            self.stdout.write("No provider is enabled.")


def _words(line: dict[str, Any]) -> str:
    if line["returns_at"] is None:
        failures = line["failures"]
        return f"{line['state']}" + (f" ({failures} failures in a row)" if failures else "")
    scope = {"provider": "", "credential": ", one login", "model": f", {line['model']}"}
    minutes, seconds = divmod(line["returns_in"], 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
    return (
        f"{line['state']} until {line['returns_at']} "
        f"({line['reason']}{scope[line['scope']]}), {left} left"
    )
