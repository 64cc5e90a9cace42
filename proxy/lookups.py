"""Everything but messages: count_tokens, models, and what is only passed through.

None of it touches the health of a provider; what is closed is left out of counting.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import orjson

from providers.health import Caller
from providers.health_keeper import HealthKeeper
from providers.knowledge import Knowledge
from providers.routing import ProviderSpec, Target, WireFormat
from proxy.answers import JSON, Answer, all_failed, answered, as_reply, our_headers
from proxy.attempt import ask
from proxy.call import Call
from proxy.deadlines import Deadline
from proxy.errors import (
    InvalidReply,
    InvalidRequest,
    NotFound,
    RequestRefused,
    UpstreamFailure,
    UpstreamRefused,
)
from proxy.formats import FORMATS
from proxy.formats.estimate import estimate_input_tokens
from proxy.formats.headers import to_client
from proxy.formats.openai_chat import OPENAI_CHAT
from proxy.history.records import CallRecord
from proxy.journal import (
    note_attempt,
    note_failure,
    note_skip,
    note_success,
    said_by,
    secrets_of,
)
from proxy.outcomes import FinalError, Verdict, verdict_of
from proxy.preparing import prepared
from proxy.redaction import redact
from proxy.stream import StreamBroken
from proxy.upstream import Exchange, UpstreamClient

NOT_OFFERED = frozenset({404, 405, 501})
"""Statuses of a provider that does not have the endpoint at all."""


async def count_tokens(
    upstream: UpstreamClient,
    health: HealthKeeper,
    knowledge: Knowledge,
    call: Call,
    targets: list[Target],
    record: CallRecord,
) -> Answer:
    """The first Anthropic-format provider that can count; else an estimate of our own.

    One that is cooling down is not asked, and a count is no probe: dozens come at once.
    """
    open_targets = _not_closed(health, call, targets, record)
    # Foreign thinking is refused here too.
    asked = ((target, prepared(call, target, knowledge)) for target in _anthropic(open_targets))
    answer = await _first_answer(upstream, asked, record)
    if isinstance(answer, Answer):
        return answer
    body = orjson.dumps({"input_tokens": _estimate(call, targets)})
    return answered(record, 200, [JSON], body, "answered")


async def models(
    upstream: UpstreamClient, call: Call, targets: list[Target], record: CallRecord
) -> Answer:
    """The first Anthropic-format provider that can answer, else the best of their errors."""
    asked = ((target, call) for target in _anthropic(targets))
    answer = await _first_answer(upstream, asked, record)
    if isinstance(answer, Answer):
        return answer
    if answer.is_empty:
        raise NotFound("no provider of Anthropic's format is configured that could list models")
    return all_failed(answer, call, record)


async def pass_through(
    upstream: UpstreamClient, call: Call, targets: list[Target], record: CallRecord
) -> Answer:
    """Any other endpoint: unchanged to the client-credential provider alone, both ways."""
    target = next((t for t in targets if t.provider.uses_client_credentials), None)
    if target is None:
        raise NotFound(f"{call.path}: no provider that uses the client's credentials is enabled")
    attempt = note_attempt(record, target)
    request, _ = FORMATS[WireFormat.ANTHROPIC].translate(call, target)
    limits = target.provider.limits
    exchange = upstream.send(request, limits.connect)
    try:
        head = await exchange.head(Deadline(limits.first_byte, "first byte"))
        if not 200 <= head.status < 600:
            raise InvalidReply(f"status {head.status} where an answer was expected")
    except UpstreamFailure as failure:
        exchange.abandon()
        note_failure(record, attempt, target, call, failure)
        reply, said = as_reply(failure, target, call), said_by(failure, call, target)
        return answered(record, reply.status, reply.headers, reply.body, "failed", said)
    except BaseException:
        exchange.abandon()
        raise
    record.end_attempt(attempt, str(head.status), head.status)
    record.provider, record.status = target.name, head.status
    headers = [*to_client(head.headers), *our_headers(record)]
    passing = _Passing(exchange, limits.idle, record, secrets_of(call, target))
    return Answer(head.status, headers, chunks=passing)


def _estimate(call: Call, targets: list[Target]) -> int:
    """What the first provider of another format would be sent, else the request as it is."""
    try:
        for target in targets:
            if target.provider.format is WireFormat.OPENAI:
                return OPENAI_CHAT.count_tokens(call, target)
        return estimate_input_tokens(call.document())
    except RequestRefused as refused:
        raise InvalidRequest(refused.message) from None


def _not_closed(
    health: HealthKeeper, call: Call, targets: list[Target], record: CallRecord
) -> list[Target]:
    caller = Caller(call.credential, call.session_id, call.agent_id)
    decisions = health.admit(targets, caller, may_probe=False)
    for decision in decisions:
        if not decision.allowed:
            note_skip(record, decision, decision.reason)
    return [decision.target for decision in decisions if decision.allowed]


def _anthropic(targets: list[Target]) -> list[Target]:
    return [t for t in targets if t.provider.format is WireFormat.ANTHROPIC]


async def _first_answer(
    upstream: UpstreamClient, asked: Iterable[tuple[Target, Call]], record: CallRecord
) -> Answer | FinalError:
    """The first answer; else all failures, none when nobody could be asked.

    A client-credential provider's judgement on the request is an answer too.
    """
    final = FinalError()
    for target, call in asked:
        attempt = note_attempt(record, target)
        try:
            reply = await ask(upstream, call, target)
        except (UpstreamFailure, RequestRefused) as failure:
            note_failure(record, attempt, target, call, failure)
            error = as_reply(failure, target, call)
            said = said_by(failure, call, target)
            if _is_judgement(failure, target.provider):
                record.provider = target.name
                return answered(record, error.status, error.headers, error.body, "refused", said)
            final.add(error, target.provider, said)
        else:
            note_success(record, attempt, target, reply)
            return answered(record, reply.status, reply.headers, reply.body, "answered")
    return final


def _is_judgement(failure: UpstreamFailure | RequestRefused, provider: ProviderSpec) -> bool:
    if not isinstance(failure, UpstreamRefused):
        return False
    offered = failure.reply.upstream_status not in NOT_OFFERED
    return offered and verdict_of(failure, provider) is Verdict.GIVE_UP


class _Passing:
    """A reply's body, chunk by chunk, as it comes."""

    def __init__(
        self, exchange: Exchange, idle: float, record: CallRecord, secrets: list[str]
    ) -> None:
        self._secrets = secrets
        self._exchange = exchange
        self._idle = idle
        self._record = record

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            data = await self._exchange.chunk(Deadline(self._idle, "idle"))
        except UpstreamFailure as failure:
            self._record.finish("broken", redact(failure.message, self._secrets))
            raise StreamBroken(failure.message) from failure
        if not data:
            self._record.finish("answered")
            raise StopAsyncIteration
        self._record.bytes_out += len(data)
        return data

    async def aclose(self) -> None:
        self._exchange.abandon()
        self._record.finish(self._record.interruption)
