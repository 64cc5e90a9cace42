"""JSON Schemas of tools, in the subset that a provider accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

Schema = dict[str, Any]

_IDENTITIES = ("$schema", "$id")
_SCHEMA_MAPS = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_LITERAL = ("enum", "const", "default", "examples", "required", "example")
_GEMINI_UNKNOWN = frozenset(
    (
        "$schema",
        "$id",
        "$defs",
        "definitions",
        "$ref",
        "additionalProperties",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "propertyNames",
        "patternProperties",
        "unevaluatedProperties",
        "default",
        "examples",
    )
)
_GEMINI_FORMATS = ("enum", "date-time")
_MAX_INLINED = 200
_MAX_NESTED = 4
"""References that are followed: in one schema, and within each other.

Definitions that speak of each other would otherwise grow without measure.
"""


def clean_schema(schema: Any, dialect: str) -> Schema:
    """A tool's parameters as an object schema. Never changes `schema`; may share parts with it."""
    if not isinstance(schema, dict):
        return {"type": "object", "properties": {}}
    if dialect == "gemini":
        cleaned = _Gemini(schema).clean()
    else:
        cleaned = dict(schema)
        for key in _IDENTITIES:
            cleaned.pop(key, None)
        cleaned = _standard(cleaned) if _needs_cleaning(cleaned) else cleaned
    if not isinstance(cleaned.get("type"), str):
        cleaned = {"type": "object", **{k: v for k, v in cleaned.items() if k != "type"}}
    if cleaned["type"] == "object" and not isinstance(cleaned.get("properties"), dict):
        cleaned = {**cleaned, "properties": {}}
    return cleaned


def is_strict(schema: Any) -> bool:
    """Whether OpenAI's strict mode takes it: every object closed, all its properties required."""
    if isinstance(schema, list):
        return all(map(is_strict, schema))
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if isinstance(properties, dict) or schema.get("type") == "object":
        required = schema.get("required")
        names = list(properties) if isinstance(properties, dict) else []
        listed = required if isinstance(required, list) else []
        if schema.get("additionalProperties") is not False:
            return False
        if len(names) != len(listed) or any(name not in listed for name in names):
            return False
    return all(
        all(map(is_strict, value.values()))
        if key in _SCHEMA_MAPS and isinstance(value, dict)
        else is_strict(value)
        for key, value in schema.items()
        if key not in _LITERAL
    )


def _needs_cleaning(schema: Schema) -> bool:
    """Whether anything inside may have to change. Most schemas need no walk through them."""
    try:
        text = orjson.dumps(schema)
    except orjson.JSONEncodeError:
        return True
    if b'"$schema":' in text or b'"$id":' in text:
        return True
    return text.count(b'"type":"object"') > text.count(b'"properties":{')


def _standard(schema: Schema) -> Schema:
    """Without `$schema` and `$id`; objects have `properties`. Shares what is fine as it is."""
    changed: Schema = {}
    for key, value in schema.items():
        if not isinstance(value, (dict, list)) or key in _LITERAL:
            continue
        cleaned = _standard_part(key, value)
        if cleaned is not value:
            changed[key] = cleaned
    result = schema
    if changed:
        result = {**schema, **changed}
    if any(isinstance(schema.get(key), str) for key in _IDENTITIES):
        result = {key: value for key, value in result.items() if key not in _IDENTITIES}
    if schema.get("type") == "object" and not isinstance(schema.get("properties"), dict):
        result = {**result, "properties": {}}
    return result


def _standard_part(key: str, value: Any) -> Any:
    if isinstance(value, list):
        items = [_standard(item) if isinstance(item, dict) else item for item in value]
        same = all(new is old for new, old in zip(items, value, strict=True))
        return value if same else items
    if key not in _SCHEMA_MAPS:
        return _standard(value)
    parts = {
        name: _standard(part) if isinstance(part, dict) else part for name, part in value.items()
    }
    return value if all(parts[name] is value[name] for name in value) else parts


class _Gemini:
    """The subset of Gemini's function declarations (https://ai.google.dev/api/caching#Schema)."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._inlined = 0

    def clean(self) -> Schema:
        return self._schema(self._root, ())

    def _schema(self, schema: Schema, seen: tuple[str, ...]) -> Schema:
        reference = schema.get("$ref")
        if isinstance(reference, str):
            return self._referenced(schema, reference, seen)
        cleaned: Schema = {}
        for key, value in schema.items():
            if key in _GEMINI_UNKNOWN or (key == "format" and value not in _GEMINI_FORMATS):
                continue
            if key == "const":
                cleaned["enum"] = [value]
            elif key == "type" and isinstance(value, list):
                cleaned |= _gemini_type(value)
            else:
                cleaned[key] = self._part(key, value, seen)
        if cleaned.get("type") == "object" and not isinstance(cleaned.get("properties"), dict):
            cleaned["properties"] = {}
        return cleaned

    def _part(self, key: str, value: Any, seen: tuple[str, ...]) -> Any:
        if key in _LITERAL:
            return value
        if isinstance(value, list):
            return [self._schema(v, seen) if isinstance(v, dict) else v for v in value]
        if not isinstance(value, dict):
            return value
        if key in _SCHEMA_MAPS:
            return {
                name: self._schema(v, seen) if isinstance(v, dict) else v
                for name, v in value.items()
            }
        return self._schema(value, seen)

    def _referenced(self, schema: Schema, reference: str, seen: tuple[str, ...]) -> Schema:
        """What `$ref` points to, in its place; what would have no end is any object."""
        target = self._resolve(reference)
        enough = len(seen) >= _MAX_NESTED or self._inlined >= _MAX_INLINED
        if target is None or reference in seen or enough:
            return {"type": "object", "properties": {}}
        self._inlined += 1
        siblings = {key: value for key, value in schema.items() if key != "$ref"}
        return self._schema({**target, **siblings}, (*seen, reference))

    def _resolve(self, reference: str) -> Schema | None:
        if not reference.startswith("#"):
            return None
        target: Any = self._root
        for step in reference[1:].split("/"):
            if step and not isinstance(target, Mapping):
                return None
            if step:
                target = target.get(step.replace("~1", "/").replace("~0", "~"))
        return target if isinstance(target, dict) else None


def _gemini_type(types: list[Any]) -> Schema:
    """A list of types: `null` becomes `nullable`, several others an `anyOf`."""
    named = [kind for kind in types if isinstance(kind, str) and kind != "null"]
    cleaned: Schema = {"nullable": True} if "null" in types else {}
    if len(named) == 1:
        return {"type": named[0], **cleaned}
    return {"anyOf": [{"type": kind} for kind in named], **cleaned} if named else cleaned
