"""Commands before the first start, or while the database is away: one line that says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = (
    ["create_token", "--note", "laptop"],
    ["export_config"],
    ["import_config", "-"],
    ["provider_status"],
    ["prune_requests", "--days", "3"],
)


def manage(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    ours = {"DJANGO_SETTINGS_MODULE": "fallbackproxy.settings", **environment}
    inherited = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**inherited, **ours},
        input="[]",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_without_tables_they_name_the_command_that_makes_them(
    arguments: list[str], tmp_path: Path
) -> None:
    done = manage(arguments, DATA_DIR=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "no such table" in done.stderr
    assert "manage.py serve sets it up" in done.stderr


def test_a_server_that_is_away_is_said_in_one_line_and_its_password_is_not(tmp_path: Path) -> None:
    url = "postgres://proxy:s3cr3t-word@127.0.0.1:1/proxy"
    done = manage(["provider_status"], DATA_DIR=str(tmp_path), DATABASE_URL=url)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "refused" in done.stderr
    assert "s3cr3t-word" not in done.stdout + done.stderr
