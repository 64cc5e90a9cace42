"""Parameters of Anthropic-format requests: unknown fields, limits of output, the user id."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from providers.routing import Target
from proxy.rectifiers.base import (
    ANTHROPIC,
    BOTH,
    VALIDATION,
    Draft,
    Rule,
    added,
    with_document,
    wording,
)
from proxy.rectifiers.document import Document, put
from proxy.rectifiers.fields import delete_field, general
from proxy.rectifiers.fit import MARGIN, MIN_OUTPUT
from proxy.rectifiers.thinking import without_thinking_setting
from proxy.rectifiers.thinking_settings import fit_budget, whole

_EXTRA = re.compile(
    r"(?<![\w.])(?P<path>[A-Za-z_]\w*(?:\.[\w-]+)*): extra inputs are not permitted", re.IGNORECASE
)
_OUTPUT_LIMIT = re.compile(
    r"max_tokens: [\d,]+ > (?P<most>[\d,]+), which is the maximum", re.IGNORECASE
)
_ROOM = (
    r"input length and max_tokens exceed context limit: (?P<prompt>[\d,]+) \+ [\d,]+ > "
    r"(?P<window>[\d,]+)",
    r"maximum context length is (?P<window>[\d,]+) tokens\.? however, you requested (?:about )?"
    r"(?P<total>[\d,]+) tokens \([^()\n]*?(?P<output>[\d,]+) in the (?:completion|output)\)",
    r"maximum context length is (?P<window>[\d,]+) tokens and your request has "
    r"(?P<prompt>[\d,]+) input tokens",
)
"""A full context, told as the window and the prompt, or the sum of prompt and output."""


def number(digits: str) -> int:
    """A number as an upstream writes it, perhaps with thousands separators."""
    return int(digits.replace(",", ""))


def _drop_extra(draft: Draft, said: str, target: Target) -> Draft | None:
    document = draft.document
    deleted: dict[str, None] = {}
    for found in _EXTRA.finditer(said):
        path = found["path"].removeprefix("body.")
        after = (
            without_thinking_setting(document)
            if path == "thinking"
            else delete_field(document, path)
        )
        if after is not document:
            document, deleted[general(path)] = after, None
    if not deleted:
        return None
    learned = added(draft, target, "strip_fields", deleted)
    return replace(draft, document=document, profile={**draft.profile, **learned})


def limit_output(document: Document, most: int) -> Document:
    """The document with `max_tokens` of at most `most`, and a thinking budget that fits it."""
    asked = whole(document.get("max_tokens"))
    if asked is not None and asked <= most:
        return document
    return fit_budget(put(document, "max_tokens", most), most)


def _limit_output(draft: Draft, said: str, target: Target) -> Draft | None:
    found = _OUTPUT_LIMIT.search(said)
    most = number(found["most"]) if found else 0
    document = limit_output(draft.document, most) if most else draft.document
    if document is draft.document:
        return None
    return replace(draft, document=document, profile={**draft.profile, "max_output_tokens": most})


def _limit_to_room(draft: Draft, said: str, target: Target) -> Draft | None:
    """Leaves the prompt alone; a context that is full without any output is not mended."""
    for pattern in _ROOM:
        if found := re.search(pattern, said, re.IGNORECASE):
            room = number(found["window"]) - _prompt(found.groupdict()) - MARGIN
            if room < MIN_OUTPUT:
                return None
            return with_document(draft, limit_output(draft.document, room))
    return None


def _prompt(found: Mapping[str, str]) -> int:
    if "prompt" in found:
        return number(found["prompt"])
    return number(found["total"]) - number(found["output"])


def hash_user_id(document: Document) -> Document:
    """The document with a user id of 32 hexadecimal digits, the same for the same user."""
    metadata: Any = document.get("metadata")
    user = metadata.get("user_id") if isinstance(metadata, Mapping) else None
    if not isinstance(user, str) or re.fullmatch(r"[0-9a-f]{32}", user):
        return document
    digest = hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return put(document, "metadata", put(metadata, "user_id", digest))


def _hash_user_id(draft: Draft, said: str, target: Target) -> Draft | None:
    document = hash_user_id(draft.document)
    if document is draft.document:
        return None
    return replace(draft, document=document, profile={**draft.profile, "user_field": "hash"})


REPAIRS = (
    Rule(
        name="max_tokens_limit",
        label="Ask for no more output than the model can give",
        formats=ANTHROPIC,
        says=wording(_OUTPUT_LIMIT.pattern),
        mend=_limit_output,
        on_primary=True,
        why="Claude Code repeats the same body",
        learns=frozenset({"max_output_tokens"}),
    ),
    Rule(
        name="context_room",
        label="Ask for no more output than the context leaves room for",
        formats=BOTH,
        says=wording(*(re.sub(r"\?P<\w+>", "?:", pattern) for pattern in _ROOM)),
        mend=_limit_to_room,
        on_overflow=True,
        why="Claude Code lowers max_tokens itself when it reads this wording",
    ),
    Rule(
        name="user_id",
        label="Replace the user id by a hash",
        formats=ANTHROPIC,
        says=wording(
            r"invalid (?:metadata\.)?user_id: string does not match pattern",
            r"unique id of the user must be between \d+ and \d+ characters",
        ),
        mend=_hash_user_id,
        why="third parties only; Anthropic takes Claude Code's own id",
        learns=frozenset({"user_field"}),
    ),
    Rule(
        name="extra_inputs",
        label="Drop fields that the provider does not know",
        formats=ANTHROPIC,
        statuses=VALIDATION,
        says=wording(_EXTRA.pattern),
        mend=_drop_extra,
        why="Claude Code drops the field itself when it reads this wording",
        learns=frozenset({"strip_fields"}),
        runs=3,
    ),
)
