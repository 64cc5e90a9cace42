"""Import and export of the whole configuration as one JSON document.

    {"primary": {"baseUrl", "disabled", ...},
     "providers": [{"name", "baseUrl", "apiKey", "authHeader", "format", "modelMapping",
                    "headers", "retry", "disabled", "profile", ...}],
     "tokens": [{"token" or "sha256", "note", "hint", "disabled"}],
     "settings": {"cooldownDuration", "probeInterval", "patience", ...}}

or one of the arrays that the Cloudflare Worker claude-code-fallback keeps: its providers,
or its tokens. What a document does not mention stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction

from providers.fields import Undecryptable
from providers.models import (
    AccessToken,
    ConfigurationVersion,
    Provider,
    ProxySettings,
    token_digest,
)
from providers.transfer.document import (
    SETTINGS_KEYS,
    TOKEN_KEYS,
    InvalidDocument,
    Problems,
    entry_of,
    nearest,
    provider_entry,
    read_values,
)
from providers.transfer.importing import plan_providers
from providers.transfer.planning import Plan, check, differences

_SECTIONS = {"primary": dict, "providers": list, "tokens": list, "settings": dict}
# Parts of the Worker's configuration that have no counterpart: repairs are always on here.
_IGNORED_SECTIONS = frozenset(("rectifier", "debug"))
# The Worker strips these from its providers' extra headers.
_IGNORED_HEADERS = frozenset(("accept-encoding", "content-length", "host"))
_DIGEST = re.compile(r"[0-9a-f]{64}")
# The end of a shorter token would be too much of it.
_SHORTEST_HINTED_TOKEN = 16


def plan_import(data: object, *, replace: bool = False) -> Plan:
    """What an import of `data` (parsed JSON) would change; nothing is written.

    `replace`: providers and tokens that the document does not mention are removed, each
    kind only when the document has such a section. Raises InvalidDocument with all errors.
    """
    problems = Problems()
    document = _sections(data, problems)
    plan = Plan(notes=[f"{key}: ignored" for key in document if key in _IGNORED_SECTIONS])
    providers = document.get("providers")
    if isinstance(data, list) and providers:
        providers = [_without_ignored_headers(n, e, plan) for n, e in enumerate(providers)]
    plan_providers(document.get("primary"), providers, replace, plan, problems)
    if (tokens := document.get("tokens")) is not None:
        _plan_tokens(tokens, replace, plan, problems)
    _plan_settings(document.get("settings") or {}, plan, problems)
    if problems.lines:
        raise InvalidDocument(problems.lines)
    return plan


def apply_import(data: object, *, replace: bool = False) -> Plan:
    """Import `data` (parsed JSON), all of it or nothing. Raises InvalidDocument."""
    with transaction.atomic():
        # Two imports at once would plan against the same state.
        ConfigurationVersion.objects.select_for_update().filter(pk=1).first()
        plan = plan_import(data, replace=replace)
        for write in plan.writes:
            write()
    return plan


def export_configuration(*, with_secrets: bool = False) -> dict[str, Any]:
    """The configuration as a document. Without secrets, keys and header values are redacted."""
    rows = list(Provider.objects.order_by("position", "pk").prefetch_related("mappings"))
    entries = [provider_entry(row, with_secrets) for row in rows]
    # Without a primary in front, an import elsewhere must not leave that one's active.
    primary: dict[str, Any] = {"disabled": True}
    if rows and rows[0].credentials == Provider.Credentials.CLIENT:
        primary = entries.pop(0)
    tokens = AccessToken.objects.order_by("pk")
    return {
        "primary": primary,
        "providers": entries,
        "tokens": [{"sha256": t.digest, **entry_of(t, TOKEN_KEYS, True)} for t in tokens],
        "settings": entry_of(ProxySettings.load(), SETTINGS_KEYS, with_secrets),
    }


def undecryptable_providers() -> list[str]:
    """The names of providers whose secrets no export can contain."""
    return [
        row.name
        for row in Provider.objects.order_by("position", "pk")
        if isinstance(row.api_key, Undecryptable) or isinstance(row.extra_headers, Undecryptable)
    ]


def _sections(data: object, problems: Problems) -> Mapping[str, Any]:
    if isinstance(data, list):
        return {"tokens" if data and all(map(_looks_like_token, data)) else "providers": data}
    if not isinstance(data, dict):
        raise InvalidDocument(["an object, or an array of providers, is needed"])
    for key, value in data.items():
        if key in _IGNORED_SECTIONS:
            continue
        if key not in _SECTIONS:
            known = nearest(key, _SECTIONS)
            problems.add(key, f'unknown key; the nearest known one is "{known}"')
        elif value is not None and not isinstance(value, _SECTIONS[key]):
            kind = "an object" if _SECTIONS[key] is dict else "an array"
            problems.add(key, f"this has to be {kind}")
    if problems.lines:
        raise InvalidDocument(problems.lines)
    return data


def _looks_like_token(item: object) -> bool:
    return isinstance(item, str) or (
        isinstance(item, dict) and "name" not in item and ("token" in item or "sha256" in item)
    )


def _without_ignored_headers(index: int, entry: Any, plan: Plan) -> Any:
    headers = entry.get("headers") if isinstance(entry, dict) else None
    dropped = [name for name in headers or () if name.lower() in _IGNORED_HEADERS]
    if not isinstance(headers, dict) or not dropped:
        return entry
    plan.notes.append(f"providers[{index}]: headers: {', '.join(dropped)}: ignored")
    return {**entry, "headers": {n: v for n, v in headers.items() if n not in dropped}}


def _plan_tokens(items: Sequence[Any], replace: bool, plan: Plan, problems: Problems) -> None:
    rows = {row.digest: row for row in AccessToken.objects.order_by("pk")}
    seen: dict[str, str] = {}
    for index, item in enumerate(items):
        where = f"tokens[{index}]"
        # The Worker's older configurations hold bare tokens.
        entry = {"token": item} if isinstance(item, str) else item
        if not isinstance(entry, dict):
            problems.add(where, "this has to be an object")
            continue
        values = read_values(entry, TOKEN_KEYS, where, problems, also=("token", "sha256"))
        digest = _digest(entry, values, where, problems)
        if digest in seen:
            problems.add(where, f"{seen[digest]} is the same token")
        elif digest:
            seen[digest] = where
            row = rows.get(digest) or AccessToken(digest=digest, note="imported")
            _plan_token(row, values, where, plan, problems)
    for digest, row in rows.items():
        if replace and digest not in seen:
            plan.add(f'remove token "{row.note}"', row.delete)


def _digest(
    entry: Mapping[str, Any], values: dict[str, Any], where: str, problems: Problems
) -> str:
    """The SHA-256 that a token is known by, "" where there is none."""
    token, digest = entry.get("token"), entry.get("sha256")
    if (token is None) == (digest is None):
        problems.add(where, 'either "token" or "sha256" is needed')
    elif digest is not None:
        if isinstance(digest, str) and _DIGEST.fullmatch(digest.lower()):
            return digest.lower()
        problems.add(where, "sha256", "this has to be 64 hexadecimal digits")
    elif isinstance(token, str) and token and token.isascii() and token.isprintable():
        if len(token) >= _SHORTEST_HINTED_TOKEN:
            values.setdefault("hint", token[-4:])
        return token_digest(token)
    else:
        problems.add(where, "token", "this has to be printable ASCII text")
    return ""


def _plan_token(
    row: AccessToken, values: Mapping[str, Any], where: str, plan: Plan, problems: Problems
) -> None:
    before = entry_of(row, TOKEN_KEYS, True)
    for name, value in values.items():
        setattr(row, name, value)
    check(row, where, problems, leave_out={"digest"})
    changed = differences(before, entry_of(row, TOKEN_KEYS, True))
    if row.pk is None:
        plan.add(f'add token "{row.note}"', row.save)
    elif changed:
        plan.add(f'change token "{before["note"]}": {changed}', row.save)


def _plan_settings(entry: Mapping[str, Any], plan: Plan, problems: Problems) -> None:
    row = ProxySettings.load()
    before = entry_of(row, SETTINGS_KEYS, True)
    for name, value in read_values(entry, SETTINGS_KEYS, "settings", problems).items():
        setattr(row, name, value)
    check(row, "settings", problems)
    if changed := differences(before, entry_of(row, SETTINGS_KEYS, True)):
        plan.add(f"settings: {changed}", row.save)
