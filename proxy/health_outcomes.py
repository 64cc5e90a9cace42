"""What an attempt means for the provider's health, in the words of `providers.health`."""

from __future__ import annotations

from providers.health import IGNORED, Outcome, failure, outcome_of
from providers.routing import Target
from proxy.errors import (
    Failure,
    NetworkFailure,
    RequestRefused,
    TimeLimitExceeded,
    UpstreamRefused,
)
from proxy.outcomes import amounts_to


def health_outcome(cause: Failure, target: Target, now: float, message: str) -> Outcome:
    """The outcome of a failed attempt. `message` is what went wrong, free of secrets."""
    if isinstance(cause, UpstreamRefused):
        if cause.reply.context_overflow:
            return IGNORED
        return outcome_of(
            amounts_to(cause.reply),
            cause.reply.headers,
            now,
            client_credentials=target.provider.uses_client_credentials,
            error=message,
        )
    if isinstance(cause, RequestRefused):
        return IGNORED
    if isinstance(cause, TimeLimitExceeded):
        # A spent call budget says nothing about who happened to be asked last.
        return IGNORED if cause.limit == "call budget" else failure("timed out", error=message)
    reason = "network error" if isinstance(cause, NetworkFailure) else "invalid reply"
    return failure(reason, error=message)
