"""The API. Thin: authenticate, parse once, hand to the relay, stream out.

`fallbackproxy.handler` calls `admit` before it reads the body, and the view after it; views in
`PUBLIC` answer anybody, and get no body.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any
from urllib.parse import parse_qs

import orjson
from django.conf import settings
from django.urls import reverse

from providers.events import emit
from providers.routing import Target
from proxy import lookups
from proxy.access import identify
from proxy.answers import JSON, RETRY_IS_POINTLESS, Answer
from proxy.call import COUNT_TOKENS, MESSAGES, Call
from proxy.errors import ClientError, NotAuthenticated, NotFound, error_body
from proxy.history.records import CallRecord
from proxy.metrics import CONTENT_TYPE, exposition
from proxy.reading import NO_MODEL, Contents, Head
from proxy.relay import targets_of
from proxy.requests import ApiRequest
from proxy.responses import RelayResponse
from proxy.runtime import Runtime
from proxy.status import overview, session_figures
from proxy.upstream import UpstreamClient
from proxy.wire import header

View = Callable[[ApiRequest, str], Awaitable[RelayResponse]]
Lookup = Callable[[UpstreamClient, Call, list[Target], CallRecord], Awaitable[Answer]]
Answerer = Callable[[Runtime, Call, list[Target], CallRecord], Awaitable[Answer]]

_REQUEST_ID = re.compile(rb"[!-~]{1,128}")


def in_envelope(view: View) -> Callable[..., Coroutine[Any, Any, RelayResponse]]:
    """Gives a view its request id, and answers `ClientError` in Anthropic's envelope."""

    @wraps(view)
    async def wrapped(request: ApiRequest, **captured: str) -> RelayResponse:
        request_id = request_id_of(request)
        try:
            return await view(request, request_id)
        except ClientError as error:
            return error_response(error, request_id)

    return wrapped


def admit(request: ApiRequest) -> None:
    """Find out who asks, from the headers alone. Raises `NotAuthenticated`."""
    snapshot = request.runtime.snapshot
    request.caller = identify(
        request.raw_headers, snapshot, allow_anonymous=settings.ALLOW_ANONYMOUS
    )


def request_id_of(request: ApiRequest) -> str:
    """The client's own id for this request, else a new one."""
    given = header(request.raw_headers, b"ccr-request-id") or b""
    return given.decode() if _REQUEST_ID.fullmatch(given) else f"req_{random.getrandbits(96):024x}"


def error_response(error: ClientError, request_id: str) -> RelayResponse:
    """One of the proxy's own errors, as an Anthropic client expects it."""
    emit(
        "auth.failure" if isinstance(error, NotAuthenticated) else "request.error",
        level=logging.WARNING,
        request_id=request_id,
        status=error.status,
        message=error.message,
    )
    headers = [JSON, (b"request-id", request_id.encode()), (b"ccr-request-id", request_id.encode())]
    if error.retry_is_pointless:
        headers.append(RETRY_IS_POINTLESS)
    return RelayResponse(error.status, headers, error_body(error.status, error.message, request_id))


@in_envelope
async def messages(request: ApiRequest, request_id: str) -> RelayResponse:
    _only(request, "POST")
    return await _serve(request, request_id, MESSAGES, _relay)


@in_envelope
async def count_tokens(request: ApiRequest, request_id: str) -> RelayResponse:
    _only(request, "POST")
    return await _serve(request, request_id, COUNT_TOKENS, _count)


@in_envelope
async def models(request: ApiRequest, request_id: str) -> RelayResponse:
    # With a key of ours models are read, and nothing else is done to them.
    answerer = _by(lookups.models if request.method == "GET" else lookups.pass_through)
    return await _serve(request, request_id, _path(request), answerer, has_model=False)


@in_envelope
async def anything_else(request: ApiRequest, request_id: str) -> RelayResponse:
    answerer = _by(lookups.pass_through)
    return await _serve(request, request_id, _path(request), answerer, has_model=False)


@in_envelope
async def status(request: ApiRequest, request_id: str) -> RelayResponse:
    """For a status line: who answers now and why, and how this session fared."""
    _only(request, "GET")
    runtime = request.runtime
    table, now = runtime.health.table, runtime.health.now()
    body = overview(runtime.snapshot, table, now, request.caller.credential)
    query = parse_qs(request.query.decode("latin-1"))
    session_id = _text(request, b"x-claude-code-session-id") or query.get("session", [""])[0]
    if session_id:
        body["session"] = await runtime.queries.run(session_figures, session_id[:128])
    return RelayResponse(200, [JSON], orjson.dumps(body))


async def greet(request: ApiRequest, **captured: str) -> RelayResponse:
    """What Claude Code asks before it logs in anywhere: answered here, without a token."""
    if request.path == "/" and request.method == "GET":
        location = reverse("admin:index").encode()
        return RelayResponse(302, [(b"location", location)])
    return RelayResponse(200, [JSON], b"" if request.method == "HEAD" else b"{}")


async def healthz(request: ApiRequest) -> RelayResponse:
    """This worker serves."""
    return RelayResponse(200, [JSON], orjson.dumps({"status": "ok"}))


@in_envelope
async def metrics(request: ApiRequest, request_id: str) -> RelayResponse:
    """For Prometheus."""
    _only(request, "GET")
    runtime = request.runtime
    health, providers = runtime.health, runtime.snapshot.providers
    states = [(provider.name, health.state_of(provider.id)) for provider in providers]
    body = await runtime.queries.run(exposition, states, health.now())
    return RelayResponse(200, [(b"content-type", CONTENT_TYPE)], body)


def is_public(view: Callable[..., Any]) -> bool:
    """Whether a view needs no token."""
    return view in _PUBLIC or (view is metrics and settings.METRICS_PUBLIC)


_PUBLIC = frozenset({greet, healthz})


def _path(request: ApiRequest) -> str:
    """The path as it came, but for the doubled /v1 of those who put one into the base URL."""
    if not {".", ".."}.isdisjoint(request.path.split("/")):
        raise NotFound(f"{request.path}: no such endpoint")
    return request.raw_path.removeprefix("/v1" if request.path.startswith("/v1/v1/") else "")


def _only(request: ApiRequest, method: str) -> None:
    if request.method != method:
        raise NotFound(f"{request.method} {request.path}: this endpoint takes {method}")


async def _serve(
    request: ApiRequest, request_id: str, path: str, answerer: Answerer, *, has_model: bool = True
) -> RelayResponse:
    """Make a `Call` of the request, have it answered and recorded."""
    runtime, body = request.runtime, request.take_body()
    record = _open_record(request, request_id, path, len(body))
    try:
        head = _read(runtime, body, record) if has_model else NO_MODEL
        call = _call(request, record, body, head)
        del body
        record.model, record.stream = call.model, call.stream
        emit(
            "request.start",
            request_id=request_id,
            path=path,
            model=call.model or None,
            stream=call.stream,
        )
        answer = await answerer(runtime, call, targets_of(call, runtime.snapshot), record)
    except ClientError as error:
        record.status = error.status
        record.finish("refused", error.message)
        raise
    except asyncio.CancelledError:
        record.finish(record.interruption)
        raise
    except BaseException:
        record.status = 500
        record.finish("failed", "internal error; see the log")
        raise
    return RelayResponse(answer.status, answer.headers, answer.body, answer.chunks)


def _read(runtime: Runtime, body: bytes, record: CallRecord) -> Head:
    conversation = (record.session_id, record.agent_id)
    snapshot = runtime.snapshot
    return runtime.reader.read(
        body, conversation, may_be_minted=snapshot.translates, version=snapshot.version
    )


def _open_record(request: ApiRequest, request_id: str, path: str, size: int) -> CallRecord:
    token = request.caller.token
    return CallRecord(
        request_id=request_id,
        path=path,
        session_id=_text(request, b"x-claude-code-session-id"),
        agent_id=_text(request, b"x-claude-code-agent-id"),
        token=token.note if token else "",
        bytes_in=size,
        keep=request.runtime.keep_record,
        client_left=lambda: request.client_left,
    )


def _call(request: ApiRequest, record: CallRecord, body: bytes, head: Head) -> Call:
    caller = request.caller
    return Call(
        request_id=record.request_id,
        method=request.method or "POST",
        path=record.path,
        query=request.query,
        headers=caller.headers,
        body=body,
        model=head.model,
        stream=head.stream is True and record.path == MESSAGES,
        credential=caller.credential,
        session_id=record.session_id,
        agent_id=record.agent_id,
        skip_client_providers=caller.skip_client_providers,
        contents=head if isinstance(head, Contents) else None,
    )


def _text(request: ApiRequest, name: bytes) -> str:
    return (header(request.raw_headers, name) or b"")[:128].decode("latin-1")


async def _relay(runtime: Runtime, call: Call, targets: list[Target], record: CallRecord) -> Answer:
    return await runtime.relay.answer(call, targets, runtime.snapshot.settings, record)


async def _count(runtime: Runtime, call: Call, targets: list[Target], record: CallRecord) -> Answer:
    return await lookups.count_tokens(
        runtime.upstream, runtime.health, runtime.knowledge.table, call, targets, record
    )


def _by(lookup: Lookup) -> Answerer:
    async def answerer(
        runtime: Runtime, call: Call, targets: list[Target], record: CallRecord
    ) -> Answer:
        return await lookup(runtime.upstream, call, targets, record)

    return answerer
