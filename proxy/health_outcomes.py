"""What an attempt means for the provider's health, in the words of `providers.health`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from providers.health import IGNORED, Outcome, OutcomeKind, failure, outcome_of
from providers.routing import Target
from proxy.errors import (
    Failure,
    NetworkFailure,
    RequestRefused,
    TimeLimitExceeded,
    UpstreamRefused,
)
from proxy.limit_replies import packed
from proxy.outcomes import amounts_to
from proxy.wire import ErrorReply


def health_outcome(
    cause: Failure, target: Target, now: float, message: str, secrets: Sequence[str]
) -> Outcome:
    """The outcome of a failed attempt. `message` is what went wrong, free of `secrets`."""
    if isinstance(cause, UpstreamRefused):
        return _of_refusal(cause.reply, target, now, message, secrets)
    if isinstance(cause, RequestRefused):
        return IGNORED
    if isinstance(cause, TimeLimitExceeded):
        # A spent call budget says nothing about who happened to be asked last.
        return IGNORED if cause.limit == "call budget" else failure("timed out", error=message)
    reason = "network error" if isinstance(cause, NetworkFailure) else "invalid reply"
    return failure(reason, error=message)


def _of_refusal(
    reply: ErrorReply, target: Target, now: float, message: str, secrets: Sequence[str]
) -> Outcome:
    if reply.context_overflow:
        return IGNORED
    clients = target.provider.uses_client_credentials
    outcome = outcome_of(
        amounts_to(reply), reply.headers, now, client_credentials=clients, error=message
    )
    if clients and outcome.kind is OutcomeKind.LIMIT and reply.upstream_status == 429:
        # It is between the client and this provider: nobody else can say it in its place.
        return replace(outcome, reply=packed(reply, secrets))
    return outcome
