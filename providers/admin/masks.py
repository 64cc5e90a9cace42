"""What is shown in place of a secret, and how a form that shows it is read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from providers.fields import Undecryptable

MASK = "••••••"
"""Stands for a header's value; sent back, it means: keep what is stored."""

SHORT_KEY = 12
"""Of a key this short nothing is shown: four characters would be a good part of it."""


def key_hint(key: str) -> str:
    """`••••abcd`, or only dots when the key is short."""
    return "••••" + (key[-4:] if len(key) > SHORT_KEY else "")


def masked(headers: object) -> str:
    """The headers as indented JSON with every value masked, "" when they cannot be read."""
    if isinstance(headers, Undecryptable) or not isinstance(headers, Mapping):
        return ""
    return _as_json(dict.fromkeys(headers, MASK)) if headers else "{}"


def without_values(text: str) -> str:
    """Submitted text with its new values left out. Raises ValidationError when it is none."""
    return _as_json({name: MASK if v == MASK else "" for name, v in parse_headers(text).items()})


def parse_headers(text: str) -> dict[str, Any]:
    """A JSON object of headers. Its errors never quote a value."""
    try:
        headers = json.loads(text or "{}", object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise ValidationError(
            _("This is not valid JSON: line %(line)s, column %(column)s."),
            params={"line": error.lineno, "column": error.colno},
        ) from None
    except RecursionError:
        raise ValidationError(_("This is not valid JSON.")) from None
    if not isinstance(headers, dict):
        raise ValidationError(_("A JSON object of header names and values is needed."))
    return headers


def merged(submitted: Mapping[str, Any], stored: object) -> dict[str, Any]:
    """What is to be stored: new values, and the stored ones where the mask was left."""
    readable = stored if isinstance(stored, Mapping) else {}
    known = {name.lower(): value for name, value in readable.items()}
    result = {}
    for name, value in submitted.items():
        result[name] = known.get(name.lower(), "") if value == MASK else value
        if result[name] == "":
            raise ValidationError(_("Enter the value of “%(name)s”."), params={"name": name})
    return result


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name.lower() for name, _value in pairs]
    for name, _value in pairs:
        if names.count(name.lower()) > 1:
            raise ValidationError(_("“%(name)s” is there twice."), params={"name": name})
    return dict(pairs)


def _as_json(headers: Mapping[str, str]) -> str:
    return json.dumps(headers, ensure_ascii=False, indent=2)
