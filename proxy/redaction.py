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
# What each match begins with. Every line of the log passes here, and hardly any has one of them.
_TELLTALES = ("sk", "pk", "rk", "xai", "aiza", "ghp", "glpat", "eyj", "bearer", "basic")
_WORD = re.compile(r"[A-Za-z0-9_-]{32,}")
_SHORTEST_RANDOM_WORD = 32
_SHORTEST_SECRET = 6
_LONGEST_TEXT = 20_000
"""More is cut off, far behind what is kept: the cut may go through a secret."""


def redact_keys(text: str) -> str:
    """`text` without API keys of the well-known forms and without bearer tokens."""
    lowered = text.lower()
    for telltale in _TELLTALES:
        if telltale in lowered:
            return _KEY.sub(lambda found: f"{found['scheme'] or found['prefix']} ***", text)
    return text


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text`, as a provider wrote it, without `secrets`, keys and other long random words.

    The result is fit for any database: no NUL, no lone surrogates.
    """
    text = text[:_LONGEST_TEXT].replace("\0", "").encode("utf-8", "replace").decode()
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE)
    return _WORD.sub(_unless_random, redact_keys(text))


def _unless_random(found: re.Match[str]) -> str:
    """A long word, unless it has both letters and digits. Looked at once: texts may be hostile."""
    word = found[0].strip("-")
    random = len(word) >= _SHORTEST_RANDOM_WORD and re.search("[0-9]", word)
    return "***" if random and re.search("[A-Za-z]", word) else found[0]
