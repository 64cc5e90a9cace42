"""Everything that can go wrong with a call.

ProxyError
├── ClientError              answered to the client, in Anthropic's envelope
│   ├── InvalidRequest         400
│   ├── NotAuthenticated       401, not to be retried
│   ├── NotFound               404
│   ├── RequestTooLarge        413
│   └── NoProvider             502, nothing is configured that could answer
├── RequestRefused           a wire format cannot carry this request
│   └── AttemptCrashed         the proxy itself failed over it
├── AnswerLocally            a wire format knows the answer without asking
└── UpstreamFailure          one attempt failed; the relay decides what follows
    ├── NetworkFailure         no connection, or it broke
    ├── TimeLimitExceeded      connect, first byte or idle
    ├── InvalidReply           not what was asked for
    └── UpstreamRefused        the provider answered with an error
"""

from __future__ import annotations

from typing import ClassVar

import orjson

from proxy.wire import ErrorReply

ERROR_TYPES: dict[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Anthropic's error type of each status (https://docs.anthropic.com/en/api/errors)."""


def error_type(status: int) -> str:
    """Anthropic's error type for any status."""
    return ERROR_TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")


def error_body(status: int, message: str, request_id: str, type: str = "") -> bytes:
    """Anthropic's error envelope. `type` defaults to the one that belongs to `status`."""
    return orjson.dumps(
        {
            "type": "error",
            "error": {"type": type or error_type(status), "message": message},
            "request_id": request_id,
        }
    )


class ProxyError(Exception):
    """The root of this tree."""


class ClientError(ProxyError):
    """A call that the proxy itself answers with an error."""

    status: ClassVar[int] = 500
    retry_is_pointless: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(ClientError):
    status = 400


class NotAuthenticated(ClientError):
    status = 401
    retry_is_pointless = True


class NotFound(ClientError):
    status = 404


class RequestTooLarge(ClientError):
    status = 413


class NoProvider(ClientError):
    status = 502
    retry_is_pointless = True


class RequestRefused(ProxyError):
    """A wire format cannot carry this request.

    With `final`, the client is told at once, because it can mend the request
    itself; else the next target is tried.
    """

    def __init__(self, message: str, *, status: int = 400, final: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.final = final


class AttemptCrashed(RequestRefused):
    """A bug of the proxy, met on the way to one provider: the others may answer all the same."""

    def __init__(self) -> None:
        super().__init__("the proxy failed on this attempt; see its log", status=500)


class AnswerLocally(ProxyError):
    """A wire format knows the whole answer without asking the provider."""

    def __init__(self, body: bytes, content_type: bytes = b"application/json") -> None:
        super().__init__("answered without a provider")
        self.body = body
        self.content_type = content_type


class UpstreamFailure(ProxyError):
    """One attempt failed. The message is fit for the request log: no secrets, no prompt text."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NetworkFailure(UpstreamFailure):
    """No connection to the provider, or it broke before the reply was complete."""


class TimeLimitExceeded(UpstreamFailure):
    """The provider took too long: `limit` is "connect", "first byte" or "idle"."""

    def __init__(self, limit: str, seconds: float) -> None:
        super().__init__(f"{limit} limit of {seconds:g} s exceeded")
        self.limit = limit


class InvalidReply(UpstreamFailure):
    """The provider answered with something that is no answer (HTML, an empty body, broken JSON)."""


class UpstreamRefused(UpstreamFailure):
    """The provider answered with an error, by its status or inside a 200."""

    def __init__(self, reply: ErrorReply) -> None:
        super().__init__(reply.message)
        self.reply = reply


Failure = UpstreamFailure | RequestRefused
"""Whatever ends an attempt without an answer."""
