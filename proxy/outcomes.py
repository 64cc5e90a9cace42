"""What follows from an answer: success, next provider, or give up.

`verdict_of_status` is total over 100-599, and a table. Wording decides only
where a status is ambiguous.
"""

from __future__ import annotations

import enum
import re

from providers.routing import ProviderSpec
from proxy.errors import (
    Failure,
    NetworkFailure,
    RequestRefused,
    TimeLimitExceeded,
    UpstreamRefused,
    error_type,
)
from proxy.wire import ErrorReply, header


class Verdict(enum.Enum):
    """What the relay does after an attempt."""

    SUCCESS = "success"
    NEXT = "next"
    GIVE_UP = "give up"


ELIGIBLE_STATUSES = frozenset({401, 402, 403, 408, 429, *range(500, 600)})
"""Of a provider that could not do what Anthropic would have done: somebody else may."""

_RATE_LIMIT_WORDING = re.compile(
    r"rate_limit_exceeded|rate limit reached|tokens per min|\bTPM\b", re.IGNORECASE
)
_CREDIT_WORDING = re.compile(r"your credit balance is too low", re.IGNORECASE)


def verdict_of_status(status: int, *, own_key: bool) -> Verdict:
    """The verdict on a bare status. `own_key`: the provider is called with a key of ours."""
    if 200 <= status < 300:
        return Verdict.SUCCESS
    if status in ELIGIBLE_STATUSES or 300 <= status < 400 or not 200 <= status < 600:
        return Verdict.NEXT
    # Any other 4xx: Claude Code recovers from many of them by Anthropic's
    # wording, but has nothing to do with what a fallback dislikes.
    return Verdict.NEXT if own_key else Verdict.GIVE_UP


def verdict_of_refusal(reply: ErrorReply, provider: ProviderSpec) -> Verdict:
    """The verdict on an error that a provider answered."""
    if reply.meant_status == 401 and provider.uses_client_credentials:
        return Verdict.GIVE_UP if provider.return_client_401 else Verdict.NEXT
    if is_eligible(reply):
        return Verdict.NEXT
    own_key = not provider.uses_client_credentials
    return verdict_of_status(reply.meant_status, own_key=own_key)


def is_eligible(reply: ErrorReply) -> bool:
    """Whether an error says something about the provider, and not about the request."""
    status = amounts_to(reply)
    return not reply.context_overflow and (status in ELIGIBLE_STATUSES or not 400 <= status < 600)


def amounts_to(reply: ErrorReply) -> int:
    """The status that an error stands for, where its wording knows better than its status."""
    status = reply.meant_status
    if status in (400, 413) and (reply.rate_limited or _RATE_LIMIT_WORDING.search(reply.message)):
        return 429
    if status == 400 and _CREDIT_WORDING.search(reply.message):
        return 402
    return status


def verdict_of(failure: Failure, provider: ProviderSpec) -> Verdict:
    """The verdict on anything that can end an attempt without an answer."""
    if isinstance(failure, RequestRefused):
        return Verdict.GIVE_UP if failure.final else Verdict.NEXT
    if isinstance(failure, UpstreamRefused):
        return verdict_of_refusal(failure.reply, provider)
    return Verdict.NEXT


def may_retry(failure: Failure) -> bool:
    """Whether the same provider may be asked again: 5xx, network, time-outs of the connection."""
    if isinstance(failure, UpstreamRefused):
        return failure.reply.meant_status >= 500
    if isinstance(failure, TimeLimitExceeded):
        return failure.limit == "connect"
    return isinstance(failure, NetworkFailure)


def named_wait(failure: Failure) -> float:
    """Seconds for which a provider asks to be left alone, 0 if it does not say so in seconds."""
    if not isinstance(failure, UpstreamRefused):
        return 0.0
    value = header(failure.reply.headers, b"retry-after") or b""
    return float(value) if value.isdigit() else 0.0


_SHORT_RESULTS = {
    "NetworkFailure": "network",
    "RequestRefused": "refused",
    "AttemptCrashed": "crash",
}


def short_result(failure: Failure) -> str:
    """One word for the trail: a status, or what happened instead."""
    if isinstance(failure, UpstreamRefused):
        return str(failure.reply.meant_status or failure.reply.status)
    if isinstance(failure, TimeLimitExceeded):
        return "timeout"
    return _SHORT_RESULTS.get(type(failure).__name__, "invalid")


def rejects_our_key(reply: ErrorReply, provider: ProviderSpec) -> bool:
    """Whether this error is about a key that the operator configured, not the client's."""
    return not provider.uses_client_credentials and (
        reply.upstream_status in (401, 402, 403) or reply.status in (401, 402, 403)
    )


def is_used_up(reply: ErrorReply, provider: ProviderSpec) -> bool:
    """Whether the client's own subscription is used up: it says so, and until when."""
    return (
        provider.uses_client_credentials
        and amounts_to(reply) == 429
        and (header(reply.headers, b"anthropic-ratelimit-unified-status") or b"") == b"rejected"
    )


class FinalError:
    """Collects failures and says which one the client hears when all have failed.

    First match: a context overflow, if every provider that was reached reported
    it; that the client's own subscription is used up; the last eligible failure
    that is not a provider rejecting our key; the last other refusal; a 502 that
    names the provider whose key was rejected.
    """

    def __init__(self) -> None:
        self.rejected_by = ""
        self._reached = 0
        self._said: list[tuple[ErrorReply, str]] = []
        self._overflow: list[ErrorReply] = []
        self._used_up: ErrorReply | None = None
        self._eligible: ErrorReply | None = None
        self._other: ErrorReply | None = None
        self._rejected: ErrorReply | None = None

    def add(self, reply: ErrorReply, provider: ProviderSpec, said: str = "") -> None:
        """One more failure: a provider's own words, or ours where it had none.

        `said` is the same for the history, without secrets.
        """
        self._reached += 1
        self._said.append((reply, said))
        if reply.context_overflow:
            self._overflow.append(reply)
        if is_used_up(reply, provider):
            self._used_up = reply
        if rejects_our_key(reply, provider):
            self._rejected, self.rejected_by = reply, provider.name
        elif is_eligible(reply):
            self._eligible = reply
        else:
            self._other = reply

    def add_unasked(self, reply: ErrorReply, provider: ProviderSpec, said: str = "") -> None:
        """In the end, what a provider that was not asked has said when it reached its limit."""
        self._said.append((reply, said))
        if is_used_up(reply, provider):
            self._used_up = self._used_up or reply
        self._eligible = self._eligible or reply

    @property
    def is_empty(self) -> bool:
        """Nobody was reached."""
        return self._reached == 0

    @property
    def last_eligible(self) -> ErrorReply | None:
        """The last failure that says something about a provider's state."""
        return self._eligible

    def said(self, reply: ErrorReply) -> str:
        """What the history is to say of a reply that was added."""
        return next((said for added, said in self._said if added is reply), "")

    def best(self) -> tuple[ErrorReply, bool]:
        """The reply to send, and whether all it says is that our key was rejected."""
        if self._overflow and len(self._overflow) == self._reached:
            return self._overflow[-1], False
        chosen = self._used_up or self._eligible or self._other
        if chosen is not None:
            return chosen, False
        if self._rejected is None:
            raise ValueError("nothing has failed yet")
        return self._rejected, True


def error_type_of(failure: Failure) -> str:
    """The error type for the log."""
    if isinstance(failure, UpstreamRefused):
        return failure.reply.type or error_type(failure.reply.status)
    if isinstance(failure, TimeLimitExceeded):
        return "timeout_error"
    return "invalid_request_error" if isinstance(failure, RequestRefused) else "api_error"
