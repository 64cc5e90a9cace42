"""Token usage of one reply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_FIELDS = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_input_tokens": "cache_read",
    "cache_creation_input_tokens": "cache_creation",
}


@dataclass(slots=True)
class Usage:
    """Tokens of one reply, None where the provider did not say.

    `input` excludes cached tokens, as Anthropic counts: the prompt is
    input + cache_read + cache_creation. `estimated` marks figures of our own.
    """

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_creation: int | None = None
    estimated: bool = False

    def update(self, usage: object) -> None:
        """Take over the figures of an Anthropic `usage` object; later ones replace earlier ones."""
        if not isinstance(usage, Mapping):
            return
        for name, attribute in _FIELDS.items():
            value: Any = usage.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                setattr(self, attribute, value)
