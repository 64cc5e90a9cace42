"""Notes on the attempts of a call: for its row in the history, and as structured log events."""

from __future__ import annotations

import hashlib
import logging

from providers.events import emit
from providers.health import Decision
from providers.routing import Target
from proxy.attempt import Reply
from proxy.call import Call
from proxy.errors import Failure, TimeLimitExceeded, UpstreamRefused
from proxy.history.kept_headers import kept_headers
from proxy.history.records import AttemptRecord, CallRecord
from proxy.outcomes import error_type_of, short_result
from proxy.redaction import redact
from proxy.wire import UpstreamRequest

logger = logging.getLogger("ccf.relay")


def note_skip(record: CallRecord, decision: Decision, reason: str) -> None:
    """A provider is not asked, and why."""
    attempt = record.begin_attempt(decision.target.name, decision.target.model, "skipped")
    record.end_attempt(attempt, "skipped")
    attempt.error_message = reason
    emit(
        "circuit_breaker.skip",
        request_id=record.request_id,
        provider=decision.target.name,
        reason=reason,
    )


def note_admission(record: CallRecord, decision: Decision) -> None:
    """A provider that is cooling down is asked all the same."""
    if decision.probe or decision.safety_valve:
        emit(
            "circuit_breaker.probe" if decision.probe else "safety_valve.triggered",
            request_id=record.request_id,
            provider=decision.target.name,
            reason=decision.reason,
        )


def note_attempt(record: CallRecord, target: Target, kind: str = "tried") -> AttemptRecord:
    """A provider is about to be asked."""
    emit(
        "provider.attempt",
        request_id=record.request_id,
        provider=target.name,
        model=target.model,
        kind=kind,
    )
    return record.begin_attempt(target.name, target.model, kind)


def note_request(
    record: CallRecord, attempt: AttemptRecord, call: Call, request: UpstreamRequest
) -> None:
    """What is being sent: the client's very bytes, or others. Hashes tell, without the content."""
    if not record.body_hash:
        record.body_hash = _short_hash(call.body)
    attempt.unmodified = request.body is call.body
    attempt.body_hash = record.body_hash if attempt.unmodified else _short_hash(request.body)


def note_success(record: CallRecord, attempt: AttemptRecord, target: Target, reply: Reply) -> None:
    """A provider's answer is being committed."""
    record.end_attempt(attempt, str(reply.status), reply.status)
    attempt.headers = kept_headers(reply.headers)
    record.provider = target.name
    record.model_sent = target.model
    record.status = reply.status
    record.first_byte = record.elapsed()
    record.usage = reply.translation.usage
    record.dropped = reply.translation.dropped
    emit(
        "provider.success",
        request_id=record.request_id,
        provider=target.name,
        status=reply.status,
        milliseconds=round(attempt.duration * 1000),
    )


def note_failure(
    record: CallRecord, attempt: AttemptRecord, target: Target, call: Call, failure: Failure
) -> None:
    """An attempt has failed; whatever quotes a secret is redacted here."""
    status = failure.reply.meant_status if isinstance(failure, UpstreamRefused) else None
    record.end_attempt(attempt, short_result(failure), status)
    attempt.error_type = error_type_of(failure)
    attempt.error_message = said_by(failure, call, target)
    if isinstance(failure, UpstreamRefused):
        attempt.headers = kept_headers(failure.reply.headers)
    emit(
        "provider.timeout" if isinstance(failure, TimeLimitExceeded) else "provider.failure",
        level=logging.WARNING,
        request_id=record.request_id,
        provider=target.name,
        status=status,
        result=attempt.result,
        error_type=attempt.error_type,
        milliseconds=round(attempt.duration * 1000),
    )


def emit_crash(record: CallRecord, bug: Exception) -> None:
    """A bug was met on the way to one provider."""
    provider = record.attempts[-1].provider
    fields = {"request_id": record.request_id, "provider": provider}
    logger.error("attempt.crash", exc_info=bug, extra={"fields": fields})


def said_by(failure: Failure, call: Call, target: Target) -> str:
    """What went wrong, fit for the history."""
    return redact(failure.message, secrets_of(call, target))


def _short_hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]


def secrets_of(call: Call, target: Target) -> list[str]:
    """What an upstream might quote in its complaint and nobody may read in the history."""
    provider = target.provider
    words = (word for value in call.credential_values for word in value.split())
    return [
        provider.api_key,
        *(value for _, value in provider.extra_headers),
        *(word for word in words if word.lower() != "bearer"),
    ]
