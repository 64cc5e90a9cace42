"""Points in time that a wait must not pass, and the limit that each stands for."""

from __future__ import annotations

from time import monotonic


class Deadline:
    """`limit` names it for people, `seconds` is its length, `at` is on the event loop's clock.

    That clock is `monotonic`. To ask the loop itself takes a system call: to find the running
    one, Python looks whether the process has forked.
    """

    __slots__ = ("at", "limit", "seconds")

    def __init__(self, seconds: float, limit: str) -> None:
        self.limit = limit
        self.seconds = seconds
        self.at = monotonic() + seconds

    def restart(self) -> None:
        """It is so many seconds away again. For its owner alone."""
        self.at = monotonic() + self.seconds

    def or_earlier(self, other: Deadline | None) -> Deadline:
        return other if other is not None and other.at < self.at else self

    @property
    def remaining(self) -> float:
        """Seconds, negative when it has passed."""
        return self.at - monotonic()

    @property
    def passed(self) -> bool:
        return monotonic() >= self.at
