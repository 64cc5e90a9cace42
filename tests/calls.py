"""Finished calls, as the relay hands them to the log."""

from __future__ import annotations

from typing import Any

from proxy.history.records import AttemptRecord, CallRecord
from proxy.usage import Usage

Tried = tuple[str, int | None]
"""A provider, and the status that it answered; None: it was skipped."""

NOW = 1_795_000_000.0
"""A time in the middle of an hour."""


def finished(
    *tried: Tried,
    time: float = NOW,
    provider: str | None = None,
    outcome: str = "answered",
    tokens: tuple[int, int, int, int] = (10, 20, 300, 4),
    **fields: Any,
) -> CallRecord:
    """A call that ended; unless said otherwise, the last one that was asked answered it."""
    record = CallRecord(
        request_id=fields.pop("request_id", "req_1"),
        path=fields.pop("path", "/v1/messages"),
        session_id=fields.pop("session_id", ""),
        agent_id="",
        token="laptop",
        bytes_in=1,
        keep=lambda record: None,
        time=time,
        usage=Usage(*tokens),
        **fields,
    )
    for name, status in tried:
        attempt = AttemptRecord(name, "m", "skipped" if status is None else "tried")
        attempt.status = status
        attempt.result = "skipped" if status is None else str(status)
        record.attempts.append(attempt)
    last = tried[-1][0] if tried and outcome != "failed" else ""
    record.provider = last if provider is None else provider
    record.outcome = outcome
    return record
