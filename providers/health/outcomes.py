"""How an attempt went, in the words of the circuit breaker."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from providers.health.limits import HeaderPairs, Limit, read_refusal
from providers.health.rows import Scope

MAX_TEXT = 300
"""Errors and reasons are cut to this many characters."""


class OutcomeKind(enum.StrEnum):
    """What one attempt means for the provider."""

    SUCCESS = "success"
    FAILURE = "failure"
    LIMIT = "limit"
    """It said when it will be back."""
    CLIENT_REJECTED = "client_rejected"
    """It did not accept the client's own credentials, or they have no credit."""
    IGNORED = "ignored"
    """Says nothing about the provider: the request was at fault, or was not a real one."""
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one attempt.

    `reason` is a word or two ("529", "timed out") and ends up in "3 failures in a row (529)".
    `error` is what the provider said, for the status page; it is cut to `MAX_TEXT`.
    `scope` is what a failure counts for. `limits` are those of a LIMIT, longest first, and
    `reply` is what to remember with them.
    """

    kind: OutcomeKind
    status: int | None = None
    reason: str = ""
    scope: Scope = Scope.PROVIDER
    limits: tuple[Limit, ...] = ()
    error: str = field(default="", repr=False)
    reply: str = field(default="", repr=False)

    @property
    def until(self) -> float | None:
        """When the provider said it will be back: the end of the longest limit."""
        return max((limit.until for limit in self.limits), default=None)


SUCCESS = Outcome(OutcomeKind.SUCCESS)
IGNORED = Outcome(OutcomeKind.IGNORED)
CANCELLED = Outcome(OutcomeKind.CANCELLED)

_REFUSALS = frozenset({429, 503, 529})
_CREDENTIALS = frozenset({401, 402, 403})
_ELIGIBLE = frozenset({401, 402, 403, 408, 429})


def failure(reason: str, *, status: int | None = None, error: str = "") -> Outcome:
    """A failure that is not told by a status: the network, a time limit, an invalid reply."""
    return Outcome(
        OutcomeKind.FAILURE, status=status, reason=reason[:MAX_TEXT], error=error[:MAX_TEXT]
    )


def outcome_of(
    status: int,
    headers: HeaderPairs,
    now: float,
    *,
    client_credentials: bool = False,
    error: str = "",
) -> Outcome:
    """The outcome that a status and its raw header pairs stand for.

    Pass the status that the answer amounts to: 429 for a 400 or 413 whose wording is a rate
    limit, 402 for one that says that the credit is used up, and that of the error inside a 200.
    A repaired 400 and count_tokens are not for this function: record `IGNORED`.
    `client_credentials` tells that the provider was called with the client's own.
    """
    if 200 <= status < 300:
        return SUCCESS
    if 400 <= status < 500 and status not in _ELIGIBLE:
        return Outcome(OutcomeKind.IGNORED, status=status, reason=str(status))
    error = error[:MAX_TEXT]
    if status in _REFUSALS:
        return _refused(status, headers, now, error)
    if client_credentials and status in _CREDENTIALS:
        kind, scope = OutcomeKind.CLIENT_REJECTED, Scope.CREDENTIAL
    else:
        kind, scope = OutcomeKind.FAILURE, Scope.PROVIDER
    return Outcome(kind, status=status, reason=str(status), scope=scope, error=error)


def _refused(status: int, headers: HeaderPairs, now: float, error: str) -> Outcome:
    refusal = read_refusal(status, headers, now)
    if not refusal.limits:
        return Outcome(
            OutcomeKind.FAILURE, status, reason=str(status), scope=refusal.scope, error=error
        )
    return Outcome(
        OutcomeKind.LIMIT,
        status,
        reason=refusal.limits[0].reason,
        scope=refusal.limits[0].scope,
        limits=refusal.limits,
        error=error,
    )
