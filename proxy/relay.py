"""The loop: targets -> attempts -> commit. One call goes in, one answer comes out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from providers.health import CANCELLED, SUCCESS, Caller, Decision, Outcome
from providers.health_keeper import HealthKeeper
from providers.routing import Settings, Snapshot, Target
from proxy.answers import JSON, RETRY_IS_POINTLESS, Answer, answered, as_reply, our_headers
from proxy.attempt import Reply, ask
from proxy.call import Call
from proxy.deadlines import Deadline
from proxy.errors import (
    AnswerLocally,
    Failure,
    NoProvider,
    RequestRefused,
    UpstreamFailure,
    UpstreamRefused,
    error_body,
)
from proxy.health_outcomes import health_outcome
from proxy.journal import note_admission, note_attempt, note_failure, note_skip, note_success
from proxy.outcomes import FinalError, Verdict, may_retry, verdict_of
from proxy.records import CallRecord
from proxy.stream import ClientGone, CommittedStream
from proxy.upstream import UpstreamClient
from proxy.wire import header

RETRY_DELAY = 0.5


@dataclass(frozen=True, slots=True)
class _Conversation:
    """One call on its way: what all its attempts share."""

    call: Call
    caller: Caller
    record: CallRecord
    settings: Settings
    budget: Deadline


class Relay:
    """Answers calls. `sleep` is replaced in tests."""

    def __init__(
        self,
        upstream: UpstreamClient,
        health: HealthKeeper,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._upstream = upstream
        self._health = health
        self._sleep = sleep

    async def answer(
        self, call: Call, targets: list[Target], settings: Settings, record: CallRecord
    ) -> Answer:
        """Ask one target after the other. Raises `NoProvider` when there is none."""
        if not targets:
            raise NoProvider(_nobody(call))
        caller = Caller(call.credential, call.session_id, call.agent_id)
        budget = Deadline.after(settings.call_budget, "call budget")
        conversation = _Conversation(call, caller, record, settings, budget)
        while True:
            result = await self._ask_all(conversation, targets)
            if isinstance(result, Answer):
                return result
            wait = _worth_waiting(result, settings, budget)
            if wait is None:
                return _all_failed(result, call, record)
            await self._sleep(wait)

    async def _ask_all(
        self, conversation: _Conversation, targets: list[Target]
    ) -> Answer | FinalError:
        """Everybody who may be asked, in order; in the end whom this session only avoids."""
        decisions = self._health.admit(targets, conversation.caller)
        spare = [d for d in decisions if d.avoided and not d.allowed and not d.closed]
        left = sum(d.allowed for d in decisions) + len(spare)
        final = FinalError()
        try:
            queue = [(d, d.allowed) for d in decisions] + [(d, True) for d in spare]
            for decision, asked in queue:
                if not asked:
                    note_skip(conversation.record, decision)
                    continue
                left -= 1
                answer = await self._ask_or_collect(conversation, decision, final, left == 0)
                if answer is not None:
                    return answer
                if conversation.budget.passed:
                    break
        finally:
            for decision in decisions:
                self._health.release(decision)
        return final

    async def _ask_or_collect(
        self, conversation: _Conversation, decision: Decision, final: FinalError, is_last: bool
    ) -> Answer | None:
        """An answer for the client, or one more failure for `final`."""
        try:
            return await self._ask_one(conversation, decision, is_last=is_last)
        except (UpstreamFailure, RequestRefused) as failure:
            target, record = decision.target, conversation.record
            reply = as_reply(failure, target, conversation.call)
            if verdict_of(failure, target.provider) is Verdict.GIVE_UP:
                record.provider = target.name
                error = record.last_error()
                return answered(record, reply.status, reply.headers, reply.body, "refused", error)
            final.add(reply, target.provider)
            return None

    async def _ask_one(
        self, conversation: _Conversation, decision: Decision, *, is_last: bool
    ) -> Answer:
        """One target, retried where its row allows it and nobody else could answer at once."""
        target, record = decision.target, conversation.record
        provider = target.provider
        may_wait = (is_last or provider.retry_first) and not decision.probe
        tries = 1 + (provider.retries if may_wait else 0)
        delay = RETRY_DELAY
        note_admission(record, decision)
        for number in range(1, tries + 1):
            attempt = note_attempt(record, target, "tried" if number == 1 else "retried")
            try:
                reply = await ask(
                    self._upstream,
                    conversation.call,
                    target,
                    budget=conversation.budget,
                    last_resort=is_last,
                )
            except AnswerLocally as local:
                record.end_attempt(attempt, "local")
                record.provider, record.model_sent = target.name, target.model
                headers = [(b"content-type", local.content_type)]
                return answered(record, 200, headers, local.body, "answered")
            except (UpstreamFailure, RequestRefused) as failure:
                note_failure(record, attempt, target, conversation.call, failure)
                again = number < tries and may_retry(failure) and not conversation.budget.passed
                if not again:
                    self._learn(conversation, decision, failure, attempt.error_message)
                    raise
            except asyncio.CancelledError:
                record.end_attempt(attempt, "cancelled")
                self._health.record(decision, conversation.caller, CANCELLED)
                raise
            else:
                note_success(record, attempt, target, reply)
                return self._commit(conversation, decision, reply)
            await self._sleep(delay * random.uniform(0.75, 1.25))  # noqa: S311 (jitter)
            delay *= 2
        raise AssertionError("the last try returns or raises")

    def _learn(
        self, conversation: _Conversation, decision: Decision, failure: Failure, message: str
    ) -> None:
        outcome = health_outcome(failure, decision.target, self._health.now(), message)
        self._health.record(decision, conversation.caller, outcome)

    def _commit(self, conversation: _Conversation, decision: Decision, reply: Reply) -> Answer:
        """From here on the client hears this provider and no other."""
        record, caller = conversation.record, conversation.caller
        if reply.stream is None:
            self._health.record(decision, caller, SUCCESS)
            return answered(record, reply.status, reply.headers, reply.body, "answered")
        if decision.probe:
            # Content has come, so its quota is back: nobody has to wait for the end to know.
            self._health.record(decision, caller, SUCCESS)
            decision = Decision(decision.target, self._health.now())
        ending = _Ending(self._health, decision, caller, record)
        chunks = CommittedStream(
            reply.stream, decision.target.provider.limits, ending.on_end, ending.on_bytes
        )
        return Answer(reply.status, [*reply.headers, *our_headers(record)], chunks=chunks)


@dataclass(frozen=True, slots=True)
class _Ending:
    """What the end of a committed stream means. Holds nothing of the request's body."""

    health: HealthKeeper
    decision: Decision
    caller: Caller
    record: CallRecord

    def on_bytes(self, size: int) -> None:
        self.record.bytes_out += size

    def on_end(self, failure: Exception | None) -> None:
        if failure is None:
            self.record.finish("answered")
            outcome = SUCCESS
        elif isinstance(failure, ClientGone):
            self.record.finish("cancelled")
            outcome = CANCELLED
        else:
            self.record.finish("broken", str(failure))
            outcome = self._of_a_broken_stream(failure)
        self.health.record(self.decision, self.caller, outcome)

    def _of_a_broken_stream(self, failure: Exception) -> Outcome:
        target = self.decision.target
        if not isinstance(failure, UpstreamRefused):
            # It died: the client's own retry goes to somebody else.
            self.health.avoid(target, self.caller)
        if not isinstance(failure, UpstreamFailure):
            return CANCELLED
        return health_outcome(failure, target, self.health.now(), str(failure))


def targets_of(call: Call, snapshot: Snapshot) -> list[Target]:
    """The targets of a call in their order."""
    return snapshot.targets_for(
        call.model,
        with_client_credentials=bool(call.credential),
        skip_client_providers=call.skip_client_providers,
    )


def _worth_waiting(final: FinalError, settings: Settings, budget: Deadline) -> float | None:
    """Seconds until the last provider is back, if that is soon enough to be waited for."""
    reply, only_our_key = final.best()
    value = header(reply.headers, b"retry-after") or b""
    if only_our_key or not settings.patience or not value.isdigit() or reply.status < 429:
        return None
    seconds = float(value)
    return seconds if 0 < seconds <= min(settings.patience, budget.remaining) else None


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
