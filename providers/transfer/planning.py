"""Steps of an import: what changes, in words, and how it is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from providers.transfer.document import Problems, json_key

_SECRET_KEYS = frozenset(("apiKey", "headers"))


@dataclass(frozen=True, slots=True)
class Plan:
    """What an import changes. `changes` and `notes` are for people and hold no secret."""

    changes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    writes: list[Callable[[], object]] = field(default_factory=list, repr=False)

    def add(self, change: str, write: Callable[[], object]) -> None:
        self.changes.append(change)
        self.writes.append(write)


def check(
    row: models.Model, where: str, problems: Problems, leave_out: Collection[str] = ()
) -> None:
    """What the model itself has against `row`, one problem a field."""
    try:
        row.full_clean(exclude=leave_out)
    except ValidationError as error:
        for name, messages in error.message_dict.items():
            key = "" if name == "__all__" else json_key(name)
            if not problems.known_at(where, key):
                problems.add(where, key, messages[0])


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What differs between two entries, in words; no secret values."""
    return ", ".join(
        _difference(key, before.get(key), value)
        for key, value in after.items()
        if _compared(before.get(key)) != _compared(value)
    )


def _compared(value: object) -> str:
    # Python takes true for 1.
    return json.dumps(value, sort_keys=True)


def _difference(key: str, before: object, after: object) -> str:
    if key in _SECRET_KEYS:
        return f"{key} (new value)" if after else f"{key} (removed)"
    return f"{key} {shown(key, before)} -> {shown(key, after)}"


def shown(key: str, value: object) -> str:
    """A value as people may see it. The query of a URL may hold a key."""
    if key == "baseUrl" and isinstance(value, str) and "?" in value:
        value = value.partition("?")[0] + "?..."
    return json.dumps(value, ensure_ascii=False)
