"""Points in time that a wait must not pass, and the limit that each stands for."""

from __future__ import annotations

import asyncio
from typing import NamedTuple


class Deadline(NamedTuple):
    """`limit` names it for people, `seconds` is its length, `at` is on the event loop's clock."""

    limit: str
    seconds: float
    at: float

    @classmethod
    def after(cls, seconds: float, limit: str) -> Deadline:
        return cls(limit, seconds, asyncio.get_running_loop().time() + seconds)

    def or_earlier(self, other: Deadline | None) -> Deadline:
        return other if other is not None and other.at < self.at else self

    @property
    def remaining(self) -> float:
        """Seconds, negative when it has passed."""
        return self.at - asyncio.get_running_loop().time()

    @property
    def passed(self) -> bool:
        return asyncio.get_running_loop().time() >= self.at
