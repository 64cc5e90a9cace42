"""Takes out of a text what is, or looks like, somebody's secret."""

from __future__ import annotations

import re
from collections.abc import Iterable

_KEY = re.compile(
    r"""
      \b(?P<prefix>sk|pk|rk|gsk|xai|AIza|ghp|glpat|eyJ)[-_A-Za-z0-9]*[A-Za-z0-9][-_.A-Za-z0-9]{6,}
    | \b(?i:(?P<scheme>bearer|basic))\s+[A-Za-z0-9._~+/=-]{6,}
    """,
    re.VERBOSE,
)
_TELLTALES = ("sk", "pk", "rk", "xai", "AIza", "ghp", "glpat", "eyJ")
_SCHEMES = ("bearer", "basic")
_RANDOM_WORD = re.compile(r"\b(?=[\w-]*[0-9])(?=[\w-]*[A-Za-z])[A-Za-z0-9_-]{32,}\b")
_SHORTEST_SECRET = 6


def redact_keys(text: str) -> str:
    """`text` without API keys of the well-known forms and without bearer tokens."""
    if not any(telltale in text for telltale in _TELLTALES):
        # Most texts: a line of the log for each step of each call passes here.
        lowered = text.lower()
        if not any(scheme in lowered for scheme in _SCHEMES):
            return text
    return _KEY.sub(lambda found: f"{found['scheme'] or found['prefix']} ***", text)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text`, as a provider wrote it, without `secrets`, keys and other long random words."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE)
    return _RANDOM_WORD.sub("***", redact_keys(text))
