"""README and docs say what is so: commands, variables, fields, events, links."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import models

from providers.models import Provider, ProxySettings
from providers.transfer.document import MAPPING, PROVIDER_KEYS, SETTINGS_KEYS
from proxy.formats.openai_chat.profile import Profile
from proxy.formats.openai_chat.switches import CHECKS
from proxy.models import Attempt, RequestLog
from proxy.rectifiers import REPAIRS

ROOT = Path(settings.BASE_DIR)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = [
    path
    for package in ("fallbackproxy", "providers", "proxy")
    for path in sorted((ROOT / package).rglob("*.py"))
]
RUN = (
    "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt "
    "&& .venv/bin/python manage.py serve"
)
TEST = (
    "python3 -m venv .venv && .venv/bin/pip install -r tests/requirements.txt "
    "&& .venv/bin/python -m pytest"
)
# Read by libraries, not by our code.
FOREIGN_VARIABLES = {
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
}
# Not for operators.
INTERNAL_VARIABLES = {"DJANGO_SETTINGS_MODULE", "LISTEN_FDS", "LISTEN_PID"}


def section(page: str, title: str) -> str:
    """The text below a heading, up to the next one of the same or a higher level."""
    text = (ROOT / "docs" / page).read_text()
    found = re.search(
        rf"^(#+) {re.escape(title)}$(.*?)(?=^#{{1,2}} |\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert found, f"{page} has no section {title}"
    return found[2]


def table_rows(text: str) -> Iterator[list[str]]:
    """The cells of every row of every table, without headings."""
    for line in text.splitlines():
        if line.startswith("| ") and not re.match(r"\| -+ \|", line):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def names_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def calls(path: Path) -> Iterator[ast.Call]:
    return (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call))


def texts(call: ast.Call) -> list[Any]:
    return [argument.value for argument in call.args if isinstance(argument, ast.Constant)]


# --- environment variables ------------------------------------------------------


def variables_read() -> set[str]:
    """Every environment variable that the code names."""
    found = set()
    for path in CODE:
        for call in calls(path):
            function = ast.unparse(call.func)
            if function == "_read" and path.name == "settings.py":
                found.add(texts(call)[1])
            elif re.fullmatch(r"env\.\w+|(os\.)?environ\.(get|setdefault)", function):
                found.update(texts(call)[:1])
        subscripts = re.findall(r'environ\["(\w+)"\]', path.read_text())
        found.update(subscripts)
    return found - INTERNAL_VARIABLES


def defaults_in_settings() -> Mapping[str, Any]:
    """The variables of settings.py whose default is written there as it is."""
    found = {}
    for call in calls(ROOT / "fallbackproxy/settings.py"):
        if ast.unparse(call.func) != "_read":
            continue
        name, default = texts(call)[1], call.args[2]
        if not any(isinstance(part, ast.Name | ast.Call) for part in ast.walk(default)):
            found[name] = eval(ast.unparse(default), {"__builtins__": {}})
    return found


def documented_variables() -> dict[str, list[str]]:
    rows = table_rows(section("configuration.md", "Environment variables"))
    return {name: row for row in rows for name in names_in(row[0])}


def test_the_code_reads_variables_at_all() -> None:
    assert {"DATA_DIR", "DATABASE_URL", "FORWARDED_ALLOW_IPS"} <= variables_read()


def test_every_variable_that_is_read_is_documented_and_no_other() -> None:
    assert set(documented_variables()) == variables_read() | FOREIGN_VARIABLES


def test_the_documented_defaults_are_those_of_the_settings() -> None:
    documented = documented_variables()
    defaults = defaults_in_settings()
    assert len(defaults) >= 6
    for name, default in defaults.items():
        if default != "" and not isinstance(default, list):  # others are said in words
            shown = str(default).lower() if isinstance(default, bool) else str(default)
            assert names_in(documented[name][1]) == [shown], name


def test_the_readme_names_only_documented_variables() -> None:
    readme = (ROOT / "README.md").read_text()
    rows = table_rows(readme[readme.index("## Configure") : readme.index("## Troubleshooting")])
    named = {name for row in rows for name in names_in(row[0])}
    assert named and named <= set(documented_variables())


# --- fields, in the admin and in files --------------------------------------------


def documented_fields(title: str) -> dict[str, list[str]]:
    rows = table_rows(section("configuration.md", title))
    return {names_in(row[1])[0]: row for row in rows if len(row) == 4 and names_in(row[1])}


@pytest.mark.parametrize(
    ("title", "keys"),
    [
        ("Providers", [*PROVIDER_KEYS, MAPPING]),
        ("Settings", [*SETTINGS_KEYS]),
    ],
)
def test_every_field_is_documented_under_its_key_in_a_file(title: str, keys: list[str]) -> None:
    assert sorted(documented_fields(title)) == sorted(keys)


@pytest.mark.parametrize(
    ("title", "model", "keys"),
    [
        ("Providers", Provider, PROVIDER_KEYS),
        ("Settings", ProxySettings, SETTINGS_KEYS),
    ],
)
def test_fields_are_documented_with_their_label_and_default(
    title: str, model: type[models.Model], keys: Mapping[str, models.Field[Any, Any]]
) -> None:
    documented = documented_fields(title)
    for key, field in keys.items():
        label, _, default, _ = documented[key]
        assert label.lower() == str(field.verbose_name).lower(), key
        expected = field.get_default()
        if isinstance(expected, bool):
            written = str(expected if key != "disabled" else not expected).lower()
        elif isinstance(expected, float):
            written = f"{expected:g}"
        else:
            written = str(expected)
        if expected not in ("", None, [], {}):
            assert names_in(default) == [written], key
        else:
            assert default in ("", "none", "`{}`", "`[]`"), key


def test_every_switch_of_a_profile_is_documented_with_its_default() -> None:
    rows = table_rows(section("chat-completions.md", "Switches"))
    documented = {names_in(row[0])[0]: names_in(row[1])[0] for row in rows if names_in(row[0])}
    generic = dataclasses.asdict(Profile())

    assert documented.keys() == CHECKS.keys()
    for name, default in documented.items():
        value = generic[name]
        assert default == (value if isinstance(value, str) and value else json.dumps(value)), name


@pytest.mark.parametrize("model", [RequestLog, Attempt])
def test_every_column_of_the_history_is_documented(model: type[models.Model]) -> None:
    text = section("how-it-works.md", "The history").lower()
    missing = [
        str(field.verbose_name)
        for field in model._meta.concrete_fields
        if field.name not in ("id", "call") and str(field.verbose_name).lower() not in text
    ]
    assert not missing


def test_every_repair_is_documented_and_no_other() -> None:
    rows = table_rows(section("how-it-works.md", "Repairs"))
    documented = [row for row in rows if names_in(row[0])]
    assert documented == [
        [f"`{repair.name}`", repair.label, "yes" if repair.on_primary else "no"]
        for repair in REPAIRS
    ]


# --- the log ------------------------------------------------------------------------


def test_every_event_of_the_log_is_documented_and_no_other() -> None:
    event = re.compile(r"[a-z_]+\.[a-z_]+")
    logged = {
        node.value
        for path in CODE
        for call in calls(path)
        if re.fullmatch(r"emit|logger\.\w+", ast.unparse(call.func))
        for node in ast.walk(call.args[0])
        if isinstance(node, ast.Constant) and event.fullmatch(str(node.value))
    }
    rows = table_rows(section("how-it-works.md", "The log"))
    documented = {name for row in rows for name in names_in(row[0])}
    # Written by the thread that found that it had to drop lines.
    assert documented == logged | {"log.dropped"}


# --- commands and links ---------------------------------------------------------------


@pytest.mark.parametrize("command", [RUN, TEST])
def test_the_readme_has_the_command_once_on_a_line_of_its_own(command: str) -> None:
    assert (ROOT / "README.md").read_text().splitlines().count(command) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_mentioned_exists(page: Path) -> None:
    ours = {
        path.stem
        for package in ("providers", "proxy")
        for path in (ROOT / package / "management/commands").glob("[a-z]*.py")
    }
    mentioned = set(re.findall(r"manage\.py ([a-z_]+)", page.read_text()))
    assert mentioned <= ours | {"changepassword", "shell"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
