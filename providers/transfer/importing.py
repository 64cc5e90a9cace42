"""Plans the import of each section of a configuration document."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from providers.fields import Undecryptable
from providers.models import ModelMapping, Provider, save_order
from providers.transfer.document import (
    MAPPING,
    PROVIDER_KEYS,
    REDACTED,
    Problems,
    provider_entry,
    read_values,
)
from providers.transfer.planning import Plan, check, differences, shown

PRIMARY_NAME = "anthropic-primary"
PRIMARY_BASE_URL = "https://api.anthropic.com"
_CLIENT = Provider.Credentials.CLIENT
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Entry:
    """One provider of the document, and the row that it is about: a new one has no key."""

    where: str
    data: Mapping[str, Any]
    row: Provider
    primary: bool = False


def plan_providers(
    primary: Mapping[str, Any] | None,
    listed: Sequence[Any] | None,
    replace: bool,
    plan: Plan,
    problems: Problems,
) -> None:
    """Plan the sections `primary` and `providers`; either may be absent."""
    rows = list(Provider.objects.order_by("position", "pk").prefetch_related("mappings"))
    entries = _listed_entries(listed or (), {row.name: row for row in rows}, problems)
    front = _primary_entry(primary, rows, entries, problems)
    kept = [entry.row for entry in entries]
    order = rows
    if front is not None:
        _plan_provider(front, plan, problems)
        kept.append(front.row)
        if not _only_disables(front.data):
            order = [front.row, *(row for row in rows if row is not front.row)]
    elif rows and rows[0].credentials == _CLIENT:
        kept.append(rows[0])
    for entry in entries:
        _plan_provider(entry, plan, problems)
    if replace and listed is not None:
        for row in [row for row in order if row not in kept]:
            plan.add(f"remove provider {row.name}", row.delete)
        order = [row for row in order if row in kept]
    _plan_order(rows, order, [entry.row for entry in entries], plan)


def _listed_entries(
    listed: Sequence[Any], rows: Mapping[str, Provider], problems: Problems
) -> list[_Entry]:
    entries: dict[str, _Entry] = {}
    for index, data in enumerate(listed):
        where = f"providers[{index}]"
        name = data.get("name") if isinstance(data, dict) else None
        if not isinstance(data, dict):
            problems.add(where, "this has to be an object")
        elif not isinstance(name, str) or not name.strip():
            problems.add(where, "name", "a provider needs a name")
        elif (name := name.strip()) in entries:
            first = entries[name].where
            problems.add(f"{where} ({name})", "name", f"{first} has the same name")
        else:
            row = rows.get(name) or Provider(name=name)
            entries[name] = _Entry(f"{where} ({name})", data, row)
    return list(entries.values())


def _primary_entry(
    data: Mapping[str, Any] | None,
    rows: Sequence[Provider],
    listed: Sequence[_Entry],
    problems: Problems,
) -> _Entry | None:
    """The primary: the row of that name, else the first client-credential row not listed."""
    if data is None:
        return None
    name = str(data.get("name") or "").strip()
    if any(entry.row.name == name for entry in listed):
        problems.add("primary", "name", "one of the providers has this name")
        return None
    taken = [entry.row for entry in listed]
    free = [row for row in rows if row not in taken]
    by_name = [row for row in free if row.name == name]
    row = next(iter(by_name or [row for row in free if row.credentials == _CLIENT]), None)
    if row is None:
        # Nothing to disable: an export of a configuration without a primary says so.
        if _only_disables(data):
            return None
        row = Provider(name=PRIMARY_NAME, base_url=PRIMARY_BASE_URL, credentials=_CLIENT)
    return _Entry("primary", data, row, primary=True)


def _only_disables(primary: Mapping[str, Any]) -> bool:
    return set(primary) == {"disabled"} and primary["disabled"] is True


def _plan_provider(entry: _Entry, plan: Plan, problems: Problems) -> None:
    row, where = entry.row, entry.where
    before = {} if row.pk is None else provider_entry(row, with_secrets=True)
    values = read_values(entry.data, PROVIDER_KEYS, where, problems, also=(MAPPING,))
    _check_credentials(entry, values, problems)
    if row.pk is None and not row.base_url and "base_url" not in values:
        problems.add(where, "baseUrl", "a new provider needs one")
    _restore_redacted(entry, values, problems)
    for name, value in values.items():
        setattr(row, name, value)
    if row.auth_header.lower() == "authorization" and row.api_key:
        # The Worker takes keys with and without the scheme.
        row.api_key = re.sub(r"(?i)^bearer\s+", "", row.api_key)
    mapping = _read_mapping(entry, problems)
    check(row, where, problems)
    after = provider_entry(row, with_secrets=True)
    after[MAPPING] = after[MAPPING] if mapping is None else mapping
    if row.pk is None:
        described = f"{shown('baseUrl', row.base_url)}, {row.format}"
        plan.add(f"add provider {row.name} ({described})", partial(_save, row, mapping))
    elif changed := differences(before, after):
        name = before["name"]
        plan.add(f"change provider {name}: {changed}", partial(_save, row, mapping))


def _check_credentials(entry: _Entry, values: Mapping[str, Any], problems: Problems) -> None:
    """Whose credentials a provider gets never changes unless the entry says so."""
    said = values.get("credentials")
    is_client = entry.row.credentials == _CLIENT
    if entry.primary and (said or entry.row.credentials) != _CLIENT:
        text = 'the primary is called with the client\'s own credentials: "client"'
    elif entry.row.pk and is_client and not said and not entry.primary and values.get("api_key"):
        text = (
            "the provider of this name is called with the client's own credentials: "
            'say "client" or "own"'
        )
    else:
        return
    problems.add(entry.where, "credentials", text)


def _restore_redacted(entry: _Entry, values: dict[str, Any], problems: Problems) -> None:
    """Stored secrets in the place of redacted ones."""
    text = "it is redacted, and there is no stored value; export it with --with-secrets"
    row = entry.row
    if values.get("api_key") == REDACTED:
        del values["api_key"]
        if not row.api_key and not isinstance(row.api_key, Undecryptable):
            problems.add(entry.where, "apiKey", text)
    headers = values.get("extra_headers", {})
    redacted = [name for name, value in headers.items() if value == REDACTED]
    # Undecryptable headers hold none to restore.
    stored = row.extra_headers if isinstance(row.extra_headers, dict) else {}
    for name in redacted:
        if name in stored:
            headers[name] = stored[name]
        else:
            problems.add(entry.where, "headers", name, text)


def _read_mapping(entry: _Entry, problems: Problems) -> dict[str, str] | None:
    """The model mapping, None where the document has none. Empty names map nothing."""
    data = entry.data.get(MAPPING)
    if data is None:
        return None
    if not isinstance(data, dict) or not all(isinstance(v, str) for v in data.values()):
        problems.add(entry.where, MAPPING, "this has to be an object of model names")
        return None
    mapping = {source: target for source, target in data.items() if source and target}
    for source, target in mapping.items():
        row = ModelMapping(source=source, target=target)
        check(row, f"{entry.where}: {MAPPING}: {source}", problems, leave_out={"provider"})
    return mapping


def _save(row: Provider, mapping: Mapping[str, str] | None) -> None:
    row.save()
    if mapping is None:
        return
    stored = {m.source: m for m in ModelMapping.objects.filter(provider=row)}
    for source in stored.keys() - mapping.keys():
        stored[source].delete()
    for source, target in mapping.items():
        model_mapping = stored.get(source) or ModelMapping(provider=row, source=source)
        if model_mapping.target != target:
            model_mapping.target = target
            model_mapping.save()


def _plan_order(
    before: list[Provider], kept: list[Provider], listed: list[Provider], plan: Plan
) -> None:
    order = merged_order(kept, listed)
    new = [row for row in order if row.pk is None]
    remaining = [row for row in before if row in order]

    def write() -> None:
        save_order([row.pk for row in order])

    if order != remaining + new:
        plan.add("order: " + ", ".join(row.name for row in order), write)
    elif new:
        plan.writes.append(write)


def merged_order(existing: Sequence[T], wanted: Sequence[T]) -> list[T]:
    """`existing` with the members of `wanted` in the order that these have.

    Those that exist share the places that they had; a new one comes right after its
    predecessor, or before its successor, or else last.
    """
    known = [item for item in wanted if item in existing]
    places = iter(known)
    order = [next(places) if item in known else item for item in existing]
    at = order.index(known[0]) if known else len(order)
    for item in wanted:
        if item in known:
            at = order.index(item) + 1
        else:
            order.insert(at, item)
            at += 1
    return order
