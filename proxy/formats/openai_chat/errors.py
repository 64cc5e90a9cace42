"""An upstream's error as Anthropic would have said it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proxy.errors import error_body
from proxy.formats.openai_chat import overflow
from proxy.formats.openai_chat.encoding import mend
from proxy.formats.openai_chat.faults import (
    Fault,
    read_body,
    read_document,
    reason_phrase,
    redact,
)
from proxy.wire import ErrorReply, HeaderPairs, header

BAD_GATEWAY = 502
OVERLOADED = 529

_STATUSES: dict[int, tuple[int, str]] = {
    400: (400, "invalid_request_error"),
    401: (401, "authentication_error"),
    402: (402, "billing_error"),
    403: (403, "permission_error"),
    404: (404, "not_found_error"),
    408: (504, "timeout_error"),
    409: (409, "conflict_error"),
    413: (413, "request_too_large"),
    429: (429, "rate_limit_error"),
    503: (503, "overloaded_error"),
    504: (504, "timeout_error"),
    529: (529, "overloaded_error"),
}
"""Status and error type for the client; any other 4xx is like 400, any other 5xx an `api_error`."""

_STATUS_OF_CODE: dict[str, int] = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "rate_limited": 429,
    "resource_exhausted": 429,
    "too_many_requests": 429,
    "minimax 1002": 429,
    "insufficient_quota": 402,
    "billing_error": 402,
    "minimax 1008": 402,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "unauthenticated": 401,
    "minimax 1004": 401,
    "permission_error": 403,
    "permission_denied": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "context_length_exceeded": 400,
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "minimax 2013": 400,
    "overloaded_error": OVERLOADED,
    "overloaded": OVERLOADED,
    "server_overloaded": OVERLOADED,
    "unavailable": 503,
    "timeout_error": 504,
    "deadline_exceeded": 504,
}
"""The HTTP status that a code or type inside a 200 or a stream stands for."""

_OVERFLOW_STATUSES = (400, 413, 422, 500, BAD_GATEWAY)
_BILLING = (
    "insufficient_quota",
    "insufficient balance",
    "insufficient credit",
    "credit balance",
    "billing",
    "payment required",
    "top up",
)
_PER_TIME = (
    "per minute",
    "per day",
    "per_minute",
    "per_day",
    "perminute",
    "perday",
    "resource_exhausted",
)


@dataclass(frozen=True, slots=True)
class ErrorContext:
    """What is needed to word an error: whose it is, and what must not appear in it.

    `input_estimate` and `context_window` (tokens) fill in an overflow without numbers.
    """

    request_id: str
    provider: str
    secret: str = ""
    input_estimate: int = 0
    context_window: int | None = None


def read_error(status: int, headers: HeaderPairs, body: bytes, context: ErrorContext) -> ErrorReply:
    """The reply for an HTTP error status."""
    retry_after = header(headers, b"retry-after")
    return _reply(status, status, read_body(body, status), context, retry_after)


def embedded_error(
    document: Any, context: ErrorContext, *, upstream_status: int = 200
) -> ErrorReply:
    """The reply for an error inside a 200 or a stream; its own code stands for the status."""
    fault = read_document(document)
    if not fault.message:
        fault.message = reason_phrase(_embedded_status(fault))
    return _reply(_embedded_status(fault), upstream_status, fault, context)


def plain_error(
    status: int, message: str, context: ErrorContext, *, upstream_status: int = 200
) -> ErrorReply:
    """The reply for a failure that the upstream gave no message for."""
    return _reply(status, upstream_status, Fault(message=message), context)


def error_event(reply: ErrorReply) -> bytes:
    """The event by which a client hears of `reply` inside a stream."""
    return b"event: error\ndata: " + reply.body + b"\n\n"


def _reply(
    status: int,
    upstream_status: int,
    fault: Fault,
    context: ErrorContext,
    retry_after: bytes | None = None,
) -> ErrorReply:
    rate_limited = status in (400, 413) and overflow.is_rate_limit(fault)
    overflowing = status in _OVERFLOW_STATUSES and overflow.is_overflow(fault)
    client_status, kind = _client_status(status, fault, rate_limited, overflowing)
    message = mend(redact(fault.message, context.secret))
    told = message
    if overflowing:
        told = overflow.reworded(
            fault, input_estimate=context.input_estimate, context_window=context.context_window
        )
    body = error_body(
        client_status, f"{told} (provider {context.provider})", context.request_id, kind
    )
    headers = [(b"content-type", b"application/json"), (b"request-id", context.request_id.encode())]
    if retry_after is not None:
        headers.append((b"retry-after", retry_after))
    return ErrorReply(
        status=client_status,
        headers=headers,
        body=body,
        type=kind,
        message=message,
        upstream_status=upstream_status,
        context_overflow=overflowing,
        rate_limited=kind == "rate_limit_error",
    )


def _client_status(
    status: int, fault: Fault, rate_limited: bool, overflowing: bool
) -> tuple[int, str]:
    if rate_limited:
        return _STATUSES[429]
    if overflowing:
        return _STATUSES[400]
    if status == 429 and _is_billing(fault):
        return _STATUSES[402]
    if status in _STATUSES:
        return _STATUSES[status]
    if 400 <= status < 500:
        return _STATUSES[400]
    return (status if 500 <= status < 600 else BAD_GATEWAY), "api_error"


def _is_billing(fault: Fault) -> bool:
    """Whether a 429 is about money. Gemini words limits per minute as "billing" too."""
    text = fault.haystack
    if "insufficient_quota" not in fault.codes and any(word in text for word in _PER_TIME):
        return False
    return any(word in text for word in _BILLING)


def _embedded_status(fault: Fault) -> int:
    for code in fault.codes:
        if code.isdigit() and 400 <= int(code) <= 599:
            return int(code)
    known: Callable[[str], int | None] = _STATUS_OF_CODE.get
    return next((status for code in fault.codes if (status := known(code))), BAD_GATEWAY)
