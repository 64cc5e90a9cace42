"""What one call leaves behind: filled in while it runs, written to the history at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from time import perf_counter
from time import time as wall_clock
from typing import Any
from urllib.parse import quote

from proxy.usage import Usage

MAX_MESSAGE = 500
MAX_INTEGER = 2**31 - 1
"""What Postgres takes; who has used more tokens than that in one call is making them up."""


@dataclass(slots=True)
class AttemptRecord:
    """One try, or a provider that was skipped. Times in seconds since the call began."""

    provider: str
    model: str
    kind: str = "tried"
    status: int | None = None
    result: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    error_type: str = ""
    error_message: str = ""
    started: float = 0.0
    duration: float = 0.0
    repairs: list[dict[str, Any]] = field(default_factory=list)
    unmodified: bool = False
    body_hash: str = ""


def _left() -> bool:
    return True


@dataclass(slots=True)
class CallRecord:
    """One call. `finish` hands it to the history, once."""

    request_id: str
    path: str
    session_id: str
    agent_id: str
    token: str
    bytes_in: int
    keep: Callable[[CallRecord], None] = field(repr=False)
    client_left: Callable[[], bool] = field(default=_left, repr=False)
    model: str = ""
    stream: bool = False
    time: float = field(default_factory=wall_clock)
    began: float = field(default_factory=perf_counter)
    attempts: list[AttemptRecord] = field(default_factory=list)
    provider: str = ""
    model_sent: str = ""
    status: int | None = None
    outcome: str = ""
    error: str = ""
    first_byte: float | None = None
    duration: float = 0.0
    bytes_out: int = 0
    body_hash: str = ""
    usage: Usage = field(default_factory=Usage)
    dropped: Mapping[str, int] = field(default_factory=dict)

    def elapsed(self) -> float:
        """Seconds since the call began."""
        return perf_counter() - self.began

    def begin_attempt(self, provider: str, model: str, kind: str = "tried") -> AttemptRecord:
        attempt = AttemptRecord(provider, model, kind, started=self.elapsed())
        self.attempts.append(attempt)
        return attempt

    def end_attempt(self, attempt: AttemptRecord, result: str, status: int | None = None) -> None:
        attempt.result = result
        attempt.status = status
        attempt.duration = self.elapsed() - attempt.started

    @property
    def fell_back(self) -> bool:
        """Somebody else had to be asked before this provider answered."""
        return any(a.provider != self.provider for a in self.attempts) if self.provider else False

    def trail(self) -> str:
        """For the x-ccf-attempts header: `anthropic-primary=429,openrouter=200`."""
        return ",".join(f"{header_safe(a.provider)}={a.result}" for a in self.attempts if a.result)

    @property
    def interruption(self) -> str:
        """What a cancellation is: the client has left, or, if it has not, the proxy stops."""
        return "cancelled" if self.client_left() else "stopped"

    def finish(self, outcome: str, error: str = "") -> None:
        """The call is over. What comes second is ignored."""
        if self.outcome:
            return
        self.outcome = outcome
        self.error = error[:MAX_MESSAGE]
        self.duration = self.elapsed()
        for attempt in self.attempts:
            if not attempt.result:  # it was still under way
                self.end_attempt(attempt, outcome)
        self.keep(self)


@lru_cache(maxsize=1024)
def header_safe(name: str) -> str:
    """A provider's name inside a header: printable ASCII, no separators."""
    return quote(name, safe=" ()[]!#$&'*+.:@/-_")


def counted(tokens: int | None) -> int | None:
    """A number of tokens that fits every database."""
    return None if tokens is None else min(tokens, MAX_INTEGER)
