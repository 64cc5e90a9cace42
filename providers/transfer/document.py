"""The configuration as a JSON document: which key is which field, and what its value may be.

The shape is the one that the Cloudflare Worker claude-code-fallback keeps, with a
camelCase key for every field of ours that it lacks. Fields that are added to the models
appear here by themselves.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn

from django.db import models

from providers.fields import EncryptedJSONField, NamesField, Undecryptable
from providers.models import AccessToken, Provider, ProxySettings

REDACTED = "[redacted]"
MAPPING = "modelMapping"

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

# Fields whose key is not simply their name in camelCase.
_NAMES = {
    "enabled": "disabled",
    "extra_headers": "headers",
    "retries": "retry",
    "max_cooldown": "cooldownDuration",
}


class InvalidDocument(ValueError):
    """The document cannot be imported. `errors`: one line each, in the order of the document."""

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(self.errors))


class Problems:
    """Collects what is wrong, so that all of it can be reported at once."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._places: set[tuple[str, ...]] = set()

    def add(self, *path: str) -> None:
        """`path`: where it is, from the outside in, and what is wrong with it."""
        self.lines.append(": ".join(part for part in path if part))
        self._places.add(path[:-1])

    def known_at(self, *place: str) -> bool:
        """Whether something is known to be wrong just there."""
        return place in self._places


def json_key(name: str) -> str:
    """The key of a model field."""
    head, *tail = name.split("_")
    return _NAMES.get(name) or head + "".join(part.capitalize() for part in tail)


def _keys(model: type[models.Model], *left_out: str) -> dict[str, models.Field[Any, Any]]:
    fields = model._meta.concrete_fields
    return {json_key(f.name): f for f in fields if f.name not in left_out}


PROVIDER_KEYS = _keys(Provider, "id", "position")
SETTINGS_KEYS = _keys(ProxySettings, "id")
TOKEN_KEYS = _keys(AccessToken, "id", "digest", "created_at")


def parse(text: str | bytes) -> Any:
    """A JSON document.

    Raises InvalidDocument also for what Python's parser lets pass: a key given twice,
    numbers that are none, and text that no database stores.
    """
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    except InvalidDocument:
        raise
    except UnicodeDecodeError:
        raise InvalidDocument(["this is not a UTF-8 text file"]) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidDocument([f"this is not JSON: {error.msg} ({where})"]) from None
    except (RecursionError, ValueError):
        raise InvalidDocument(["this is nested too deeply, or holds an endless number"]) from None
    if any(_UNSTORABLE.search(text) for text in _texts(document)):
        raise InvalidDocument(["text must not hold NUL or unpaired surrogate characters"])
    return document


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidDocument([f'the key "{key}" is given twice in one object'])
        found[key] = value
    return found


def _no_number(text: str) -> NoReturn:
    raise InvalidDocument([f"{text} is not a JSON value"])


# --- reading ------------------------------------------------------------------


def _number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # more than a float holds
        return False


def _whole(value: Any) -> bool:
    return _number(value) and value == int(value)


@dataclass(frozen=True, slots=True)
class _Kind:
    fields: tuple[type[models.Field[Any, Any]], ...]
    wording: str
    accepts: Callable[[Any], bool]
    convert: Callable[[Any], Any]


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


# The first one that fits; EncryptedJSONField is a TextField too.
_KINDS = (
    _Kind((models.BooleanField,), "true or false", lambda v: isinstance(v, bool), bool),
    _Kind((models.IntegerField,), "a whole number", _whole, int),
    _Kind((models.FloatField,), "a number", _number, float),
    _Kind((NamesField,), "a list of names", _names, list),
    _Kind((models.JSONField, EncryptedJSONField), "an object", lambda v: isinstance(v, dict), dict),
    _Kind((models.CharField, models.TextField), "text", lambda v: isinstance(v, str), str.strip),
)


def read_values(
    entry: Mapping[str, Any],
    keys: Mapping[str, models.Field[Any, Any]],
    where: str,
    problems: Problems,
    also: Iterable[str] = (),
) -> dict[str, Any]:
    """The values of `entry` by field name. `also`: keys that the caller reads by itself.

    Null is the same as absent, and so is "" where that is no possible value: the Worker
    treats both like this.
    """
    values: dict[str, Any] = {}
    known = [*keys, *also]
    for key, value in entry.items():
        if key not in known:
            problems.add(
                where, key, f'unknown key; the nearest known one is "{nearest(key, known)}"'
            )
            continue
        target = keys.get(key)
        if target is None or value is None or (value == "" and not target.blank):
            continue
        kind = next(kind for kind in _KINDS if isinstance(target, kind.fields))
        if not kind.accepts(value):
            problems.add(where, key, f"this has to be {kind.wording}")
        else:
            read = kind.convert(value)
            values[target.name] = not read if target.name == "enabled" else read
    return values


def nearest(key: str, known: Iterable[str]) -> str:
    """The known key that looks most like `key`."""
    by_lower = {name.lower(): name for name in known}
    return by_lower[get_close_matches(key.lower(), by_lower, n=1, cutoff=0)[0]]


# --- writing ------------------------------------------------------------------


def entry_of(
    row: models.Model, keys: Mapping[str, models.Field[Any, Any]], with_secrets: bool
) -> dict[str, Any]:
    """A row as an entry: every key, so that an import restores all of it.

    Headers that cannot be decrypted are left out: an import leaves what is absent.
    """
    return {
        key: _written(value, target, with_secrets)
        for key, target in keys.items()
        if not isinstance(value := getattr(row, target.name), Undecryptable)
        or not isinstance(target, EncryptedJSONField)
    }


def provider_entry(row: Provider, with_secrets: bool) -> dict[str, Any]:
    """A provider with its mappings as an entry."""
    entry = entry_of(row, PROVIDER_KEYS, with_secrets)
    mappings = row.mappings.all() if row.pk else ()
    entry[MAPPING] = dict(sorted((m.source, m.target) for m in mappings))
    return entry


def _written(value: Any, target: models.Field[Any, Any], with_secrets: bool) -> Any:
    if isinstance(value, Undecryptable):
        return REDACTED
    if isinstance(target, EncryptedJSONField):
        return value if with_secrets else dict.fromkeys(value, REDACTED)
    if target.name == "api_key":
        return value if with_secrets or not value else REDACTED
    if target.name == "enabled":
        return not value
    if isinstance(target, models.JSONField):
        # Postgres has an order of its own.
        return json.loads(json.dumps(value, sort_keys=True))
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
