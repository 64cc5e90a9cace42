"""The loop: targets -> attempts -> commit. One call goes in, one answer comes out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from providers.health import CANCELLED, SUCCESS, Caller, Decision
from providers.health_keeper import HealthKeeper
from providers.knowledge import Knowledge
from providers.routing import Settings, Snapshot, Target, WireFormat
from proxy.answers import Answer, all_failed, answered, as_reply, nobody_to_ask, our_headers
from proxy.attempt import Reply, ask
from proxy.call import Call
from proxy.deadlines import Deadline
from proxy.endings import StreamEnding, note_signatures, watch_for
from proxy.errors import (
    AnswerLocally,
    AttemptCrashed,
    Failure,
    NoProvider,
    RequestRefused,
    UpstreamFailure,
    UpstreamRefused,
)
from proxy.fitting import Fitting
from proxy.health_outcomes import health_outcome
from proxy.history.records import CallRecord
from proxy.journal import (
    emit_crash,
    note_admission,
    note_attempt,
    note_failure,
    note_request,
    note_skip,
    note_success,
    said_by,
    secrets_of,
)
from proxy.limit_replies import said_again
from proxy.mending import Mending
from proxy.outcomes import FinalError, Verdict, may_retry, named_wait, verdict_of
from proxy.preparing import prepared
from proxy.stream import CommittedStream
from proxy.upstream import UpstreamClient
from proxy.wire import header

RETRY_DELAY = 0.5


class _Conversation(NamedTuple):
    """One call on its way: what all its attempts share."""

    call: Call
    caller: Caller
    record: CallRecord
    settings: Settings
    budget: Deadline
    fitting: Fitting


class Relay:
    """Answers calls. `sleep` is replaced in tests."""

    def __init__(
        self,
        upstream: UpstreamClient,
        health: HealthKeeper,
        knowledge: Knowledge,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._upstream = upstream
        self._health = health
        self._knowledge = knowledge
        self._sleep = sleep

    async def answer(
        self, call: Call, targets: list[Target], settings: Settings, record: CallRecord
    ) -> Answer:
        """Ask one target after the other. Raises `NoProvider` when there is none."""
        if not targets:
            raise NoProvider(nobody_to_ask(call))
        caller = Caller(call.credential, call.session_id, call.agent_id)
        budget = Deadline(settings.call_budget, "call budget")
        conversation = _Conversation(call, caller, record, settings, budget, Fitting(call))
        while True:
            result = await self._ask_all(conversation, targets)
            if isinstance(result, Answer):
                return result
            wait = _worth_waiting(result, settings, budget)
            if wait is None:
                return all_failed(result, call, record)
            await self._sleep(wait)

    async def _ask_all(
        self, conversation: _Conversation, targets: list[Target]
    ) -> Answer | FinalError:
        """Everybody who may be asked, in order; in the end whom this session only avoids."""
        decisions = self._health.admit(targets, conversation.caller)
        spare = [d for d in decisions if d.avoided and not d.allowed and not d.closed]
        left = sum(d.allowed for d in decisions) + len(spare)
        final, fitting = FinalError(), conversation.fitting
        try:
            queue = [(d, d.allowed) for d in decisions] + [(d, True) for d in spare]
            for decision, asked in queue:
                if not asked:
                    note_skip(conversation.record, decision, decision.reason)
                    continue
                left -= 1
                if misfit := fitting.misfit(decision.target.provider):
                    note_skip(conversation.record, decision, misfit)
                    continue
                answer = await self._ask_or_collect(conversation, decision, final, left == 0)
                if answer is not None:
                    return answer
                if conversation.budget.passed:
                    break
        finally:
            self._health.release(decisions)
        if final.is_empty and (overflow := fitting.overflow()):
            final.add(overflow, targets[-1].provider, overflow.message)
        _add_known_limits(conversation.call, decisions, final)
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
            said = said_by(failure, conversation.call, target)
            if verdict_of(failure, target.provider) is Verdict.GIVE_UP:
                record.provider = target.name
                return answered(record, reply.status, reply.headers, reply.body, "refused", said)
            # Whatever a provider has said is worth more than that we have failed.
            if final.is_empty or not isinstance(failure, AttemptCrashed):
                final.add(reply, target.provider, said)
            return None

    async def _ask_one(
        self, conversation: _Conversation, decision: Decision, *, is_last: bool
    ) -> Answer:
        """One target: repaired where that helps, retried where nobody else could answer at once."""
        record, now = conversation.record, self._health.now()
        target = conversation.fitting.fitted(self._knowledge.informed(decision.target, now))
        mending = Mending(
            prepared(conversation.call, target, self._knowledge), target, conversation.settings
        )
        pauses = _pauses(target, decision, is_last)
        kind = "tried"
        note_admission(record, decision)
        while True:
            attempt = note_attempt(record, mending.target, kind)
            attempt.repairs = mending.notes
            try:
                reply = await ask(
                    self._upstream,
                    mending.call,
                    mending.target,
                    budget=conversation.budget,
                    last_resort=is_last,
                    on_request=partial(note_request, record, attempt, conversation.call),
                )
            except AnswerLocally as local:
                record.end_attempt(attempt, "local")
                record.provider, record.model_sent = target.name, target.model
                headers = [(b"content-type", local.content_type)]
                return answered(record, 200, headers, local.body, "answered")
            except (UpstreamFailure, RequestRefused) as failure:
                note_failure(record, attempt, target, conversation.call, failure)
                if not conversation.budget.passed and await mending.mend(failure):
                    kind = "repaired"
                    continue
                pause = next(pauses, None) if may_retry(failure) else None
                left = conversation.budget.remaining
                if pause is None or not named_wait(failure) <= pause < left:
                    mending.learn(self._knowledge, target, now, helped=False)
                    said = attempt.error_message
                    self._learn(conversation, decision, mending.verdict(failure), said)
                    # No name for it: an exception that its own frame holds keeps the request's
                    # body until the garbage collector comes by.
                    raise mending.verdict(failure) from None
            except Exception as bug:
                emit_crash(record, bug)
                note_failure(record, attempt, target, conversation.call, AttemptCrashed())
                raise AttemptCrashed from None
            except asyncio.CancelledError:
                record.end_attempt(attempt, record.interruption)
                self._health.record(decision, conversation.caller, CANCELLED)
                raise
            else:
                note_success(record, attempt, mending.target, reply)
                mending.learn(self._knowledge, target, now, helped=True)
                return self._commit(conversation, decision, reply)
            await self._sleep(pause)
            kind = "retried"

    def _learn(
        self, conversation: _Conversation, decision: Decision, failure: Failure, message: str
    ) -> None:
        target, now = decision.target, self._health.now()
        secrets = secrets_of(conversation.call, target)
        outcome = health_outcome(failure, target, now, message, secrets)
        self._health.record(decision, conversation.caller, outcome)

    def _commit(self, conversation: _Conversation, decision: Decision, reply: Reply) -> Answer:
        """From here on the client hears this provider and no other."""
        record, caller = conversation.record, conversation.caller
        if reply.stream is None:
            note_signatures(self._knowledge, decision.target, reply.body)
            self._health.record(decision, caller, SUCCESS)
            return answered(record, reply.status, reply.headers, reply.body, "answered")
        secrets = secrets_of(conversation.call, decision.target)
        watch = watch_for(decision.target)
        ending = StreamEnding(
            self._health, self._knowledge, decision, caller, record, secrets, watch
        )
        if decision.probe:
            # Content has come, so its quota is back: nobody has to wait for the end to know.
            self._health.record(decision, caller, SUCCESS)
            ending = replace(ending, decision=Decision(decision.target, self._health.now()))
        chunks = CommittedStream(
            reply.stream, decision.target.provider.limits, ending.on_end, ending.on_data
        )
        return Answer(reply.status, [*reply.headers, *our_headers(record)], chunks=chunks)


def _add_known_limits(call: Call, decisions: list[Decision], final: FinalError) -> None:
    """Whoever was skipped because of a limit of this client has failed as well."""
    for decision in decisions:
        if not decision.allowed and (reply := said_again(decision.closed, decision.at)):
            said = said_by(UpstreamRefused(reply), call, decision.target)
            final.add_unasked(reply, decision.target.provider, said)


def _pauses(target: Target, decision: Decision, is_last: bool) -> Iterator[float]:
    """Seconds before each retry of a target; none while somebody else could answer at once."""
    provider = target.provider
    may_wait = (is_last or provider.retry_first) and not decision.probe
    for number in range(provider.retries if may_wait else 0):
        yield RETRY_DELAY * 2**number * random.uniform(0.75, 1.25)  # noqa: S311 (jitter)


def targets_of(call: Call, snapshot: Snapshot) -> list[Target]:
    """The targets of a call in their order.

    Server tools (web search and the like) only exist in Anthropic's format: such
    a call goes to providers that speak it before any other.
    """
    targets = snapshot.targets_for(
        call.model,
        with_client_credentials=bool(call.credential),
        skip_client_providers=call.skip_client_providers,
    )
    formats = {target.provider.format for target in targets}
    if len(formats) > 1 and call.seen.has_server_tools():
        targets.sort(key=lambda target: target.provider.format is not WireFormat.ANTHROPIC)
    return targets


def _worth_waiting(final: FinalError, settings: Settings, budget: Deadline) -> float | None:
    """Seconds until the last provider is back, if that is soon enough to be waited for."""
    reply = final.last_eligible
    if reply is None or not settings.patience or reply.upstream_status < 429:
        return None
    value = header(reply.headers, b"retry-after") or b""
    if not value.isdigit():
        return None
    seconds = float(value)
    return seconds if 0 < seconds <= min(settings.patience, budget.remaining) else None
