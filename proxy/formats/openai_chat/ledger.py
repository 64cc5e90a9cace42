"""What one conversion leaves out, and how much it carries."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from proxy.formats.estimate import ASCII_PER_TOKEN, image_tokens, pdf_tokens


@dataclass(slots=True)
class Ledger:
    """Counts for the request log, and the size of what is not text, for the token estimate."""

    dropped: dict[str, int] = field(default_factory=dict)
    media_chars: int = 0
    media_tokens: int = 0

    def drop(self, what: str, times: int = 1) -> None:
        self.dropped[what] = self.dropped.get(what, 0) + times

    def drop_cache_control(self, thing: dict[str, Any]) -> None:
        if "cache_control" in thing:
            self.drop("cache_control")

    def image(self, url: str) -> None:
        """An image that goes along, as a `data:` URL or by its address."""
        self.media_chars += len(url)
        self.media_tokens += image_tokens(url)

    def pdf(self, url: str) -> None:
        self.media_chars += len(url)
        self.media_tokens += pdf_tokens(len(url))

    def estimate(self, body_length: int) -> int:
        """Input tokens of a converted body of that many bytes, images at what they cost."""
        text = max(0, body_length - self.media_chars)
        return max(1, math.ceil(text / ASCII_PER_TOKEN) + self.media_tokens)
