"""What the client gets, and what the proxy adds to it."""

from __future__ import annotations

from dataclasses import dataclass, field

from providers.routing import Target
from proxy.call import Call
from proxy.errors import (
    Failure,
    RequestRefused,
    TimeLimitExceeded,
    UpstreamFailure,
    UpstreamRefused,
    error_body,
    error_type,
)
from proxy.history.records import CallRecord, header_safe
from proxy.outcomes import FinalError
from proxy.responses import Chunks
from proxy.wire import ErrorReply, HeaderPairs

JSON = (b"content-type", b"application/json")
RETRY_SOON = (b"retry-after", b"1")
RETRY_IS_POINTLESS = (b"x-should-retry", b"false")


@dataclass(slots=True)
class Answer:
    """`chunks` follow the headers; without them `body` is all there is."""

    status: int
    headers: HeaderPairs
    body: bytes = field(default=b"", repr=False)
    chunks: Chunks | None = None


def our_headers(record: CallRecord) -> list[tuple[bytes, bytes]]:
    """Who answered, and what was tried on the way."""
    headers = [(b"ccr-request-id", record.request_id.encode())]
    if record.provider:
        headers.append((b"x-ccf-provider", header_safe(record.provider).encode()))
    if trail := record.trail():
        headers.append((b"x-ccf-attempts", trail.encode()))
    return headers


def answered(
    record: CallRecord,
    status: int,
    headers: HeaderPairs,
    body: bytes,
    outcome: str,
    error: str = "",
) -> Answer:
    """A whole answer. With it the call is over."""
    record.status = status
    record.bytes_out = len(body)
    record.finish(outcome, error)
    return Answer(status, [*headers, *our_headers(record)], body)


def as_reply(failure: Failure, target: Target, call: Call) -> ErrorReply:
    """A failure as the client would hear it, in our words where the provider has said nothing."""
    if isinstance(failure, UpstreamRefused) and 400 <= failure.reply.status < 600:
        return failure.reply
    if isinstance(failure, RequestRefused):
        status = received = failure.status
        message, extra = failure.message, []
    else:
        status, received = 504 if isinstance(failure, TimeLimitExceeded) else 502, 0
        message, extra = f"{_in_words(failure)} (provider {target.name})", [RETRY_SOON]
    body = error_body(status, message, call.request_id)
    return ErrorReply(status, [JSON, *extra], body, error_type(status), message, received)


def _in_words(failure: UpstreamFailure) -> str:
    if isinstance(failure, UpstreamRefused):
        # Not passed on: a client would follow a redirect, its credentials in hand.
        return f"status {failure.reply.upstream_status} where an answer was expected"
    return failure.message


def all_failed(final: FinalError, call: Call, record: CallRecord) -> Answer:
    """Everybody has failed: what the client hears of it."""
    reply, only_our_key = final.best()
    if only_our_key:
        message = (
            f"provider {final.rejected_by} rejected the proxy's credentials; "
            "check its key in the proxy's admin"
        )
        body = error_body(502, message, call.request_id)
        return answered(record, 502, [JSON, RETRY_IS_POINTLESS], body, "failed", message)
    said = final.said(reply)
    return answered(record, reply.status, reply.headers, reply.body, "failed", said)


def nobody_to_ask(call: Call) -> str:
    """Why there is no provider for a call, and what to do about it."""
    if call.credential:
        return "no provider is configured: enable one in the proxy's admin, under Providers"
    return (
        "no provider can answer this call: it carries no credentials of its own, and no provider "
        "with a key is enabled. Log in to Claude, or add a provider in the proxy's admin"
    )
