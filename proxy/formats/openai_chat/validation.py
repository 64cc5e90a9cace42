"""The check of a provider's profile, for forms and imports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from proxy.formats.openai_chat.profile import PRESETS
from proxy.formats.openai_chat.switches import CHECKS, one_of

FOREIGN_KEY = "repairs"
"""The profile key that switches repairs on and off; it is not about the dialect."""


def validate_profile(mapping: Mapping[str, Any], *, also: Iterable[str] = ()) -> list[str]:
    """What is wrong with a provider's profile, a phrase each; empty if it is fine.

    `also` are keys that somebody else reads and checks.
    """
    if not isinstance(mapping, Mapping):
        return ["The profile must be a JSON object."]
    problems = []
    foreign = {FOREIGN_KEY, *also}
    for key, value in mapping.items():
        if key in foreign:
            continue
        if key == "preset":
            problem = one_of(*PRESETS)(value)
        elif key in CHECKS:
            problem = CHECKS[key](value)
        else:
            alike = get_close_matches(str(key), ["preset", *CHECKS], n=1)
            problem = "is not a known setting" + "".join(
                f"; did you mean {name}?" for name in alike
            )
        if problem:
            problems.append(f"{key}: {problem}")
    return problems
