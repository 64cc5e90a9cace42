"""The loop: targets -> attempts -> commit. One call goes in, one answer comes out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial

from providers.routing import Settings, Snapshot, Target
from proxy.answers import JSON, RETRY_IS_POINTLESS, Answer, answered, as_reply, our_headers
from proxy.attempt import Reply, ask
from proxy.call import Call
from proxy.deadlines import Deadline
from proxy.errors import (
    AnswerLocally,
    NoProvider,
    RequestRefused,
    UpstreamFailure,
    error_body,
)
from proxy.journal import note_attempt, note_failure, note_success
from proxy.outcomes import FinalError, Verdict, may_retry, verdict_of
from proxy.records import CallRecord
from proxy.stream import ClientGone, CommittedStream
from proxy.upstream import UpstreamClient

RETRY_DELAY = 0.5


class Relay:
    """Answers calls. `sleep` is replaced in tests."""

    def __init__(
        self,
        upstream: UpstreamClient,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._upstream = upstream
        self._sleep = sleep

    async def answer(
        self, call: Call, targets: list[Target], settings: Settings, record: CallRecord
    ) -> Answer:
        """Ask one target after the other. Raises `NoProvider` when there is none."""
        if not targets:
            raise NoProvider(_nobody(call))
        budget = Deadline.after(settings.call_budget, "call budget")
        final = FinalError()
        for position, target in enumerate(targets):
            if position and budget.passed:
                break
            is_last = position == len(targets) - 1
            try:
                return await self._try(call, target, record, budget, is_last)
            except AnswerLocally as local:
                record.provider, record.model_sent = target.name, target.model
                headers = [(b"content-type", local.content_type)]
                return answered(record, 200, headers, local.body, "answered")
            except (UpstreamFailure, RequestRefused) as failure:
                reply = as_reply(failure, target, call)
                if verdict_of(failure, target.provider) is Verdict.GIVE_UP:
                    record.provider = target.name
                    error = record.last_error()
                    return answered(
                        record, reply.status, reply.headers, reply.body, "refused", error
                    )
                final.add(reply, target.provider)
        return _all_failed(final, call, record)

    async def _try(
        self, call: Call, target: Target, record: CallRecord, budget: Deadline, is_last: bool
    ) -> Answer:
        """One target, retried where its row allows it and nobody else could answer at once."""
        provider = target.provider
        retries = provider.retries if is_last or provider.retry_first else 0
        delay = RETRY_DELAY
        for number in range(retries + 1):
            attempt = note_attempt(record, target, "retried" if number else "tried")
            try:
                reply = await ask(self._upstream, call, target, budget=budget, last_resort=is_last)
            except (UpstreamFailure, RequestRefused) as failure:
                note_failure(record, attempt, target, call, failure)
                if number == retries or budget.passed or not may_retry(failure):
                    raise
            except asyncio.CancelledError:
                record.end_attempt(attempt, "cancelled")
                raise
            else:
                note_success(record, attempt, target, reply)
                return _commit(reply, target, record)
            await self._sleep(delay * random.uniform(0.75, 1.25))  # noqa: S311 (jitter)
            delay *= 2
        raise AssertionError("the last try returns or raises")


def targets_of(call: Call, snapshot: Snapshot) -> list[Target]:
    """The targets of a call in their order."""
    return snapshot.targets_for(
        call.model,
        with_client_credentials=bool(call.credential),
        skip_client_providers=call.skip_client_providers,
    )


def _commit(reply: Reply, target: Target, record: CallRecord) -> Answer:
    """From here on the client hears this provider and no other."""
    if reply.stream is None:
        return answered(record, reply.status, reply.headers, reply.body, "answered")
    chunks = CommittedStream(
        reply.stream,
        target.provider.limits,
        on_end=partial(_end_of_stream, record),
        on_bytes=partial(_count_bytes, record),
    )
    return Answer(reply.status, [*reply.headers, *our_headers(record)], chunks=chunks)


def _all_failed(final: FinalError, call: Call, record: CallRecord) -> Answer:
    reply, only_our_key = final.best()
    if only_our_key:
        message = (
            f"provider {final.rejected_by} rejected the proxy's credentials; "
            "check its key in the proxy's admin"
        )
        body = error_body(502, message, call.request_id)
        return answered(record, 502, [JSON, RETRY_IS_POINTLESS], body, "failed", message)
    return answered(record, reply.status, reply.headers, reply.body, "failed", record.last_error())


def _nobody(call: Call) -> str:
    if call.credential:
        return "no provider is configured: enable one in the proxy's admin, under Providers"
    return (
        "no provider can answer this call: it carries no credentials of its own, and no provider "
        "with a key is enabled. Log in to Claude, or add a provider in the proxy's admin"
    )


def _count_bytes(record: CallRecord, size: int) -> None:
    record.bytes_out += size


def _end_of_stream(record: CallRecord, failure: Exception | None) -> None:
    if failure is None:
        record.finish("answered")
    elif isinstance(failure, ClientGone):
        record.finish("cancelled")
    else:
        record.finish("broken", str(failure))
