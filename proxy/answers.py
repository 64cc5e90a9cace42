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
from proxy.records import CallRecord, header_safe
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
    if isinstance(failure, UpstreamRefused) and failure.reply.status >= 400:
        return failure.reply
    if isinstance(failure, RequestRefused):
        status, message, extra = failure.status, failure.message, []
    else:
        status = 504 if isinstance(failure, TimeLimitExceeded) else 502
        message, extra = f"{_in_words(failure)} (provider {target.name})", [RETRY_SOON]
    body = error_body(status, message, call.request_id)
    return ErrorReply(status, [JSON, *extra], body, error_type(status), message, status)


def _in_words(failure: UpstreamFailure) -> str:
    if isinstance(failure, UpstreamRefused):
        # Not passed on: a client would follow a redirect, its credentials in hand.
        return f"status {failure.reply.upstream_status} where an answer was expected"
    return failure.message
