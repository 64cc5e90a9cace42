"""One tiny call per model against a provider, before anybody depends on it.

It goes the way of every call (format, credentials, stream), but touches neither the health of
the provider nor the history.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import orjson
from django.utils.translation import gettext as _

from providers.routing import ProviderSpec, Target, TimeLimits
from proxy.attempt import OpenStream, Reply, ask, read_on
from proxy.call import MESSAGES, Call
from proxy.deadlines import Deadline
from proxy.errors import (
    AnswerLocally,
    NetworkFailure,
    RequestRefused,
    UpstreamFailure,
    UpstreamRefused,
)
from proxy.redaction import redact
from proxy.sse import PayloadParser
from proxy.upstream import UpstreamClient
from proxy.wire import HeaderPairs

MODELS = ("claude-opus-4-8", "claude-sonnet-5", "claude-haiku-4-5")
"""One of each current family (https://docs.anthropic.com/en/docs/about-claude/models)."""

SECONDS = 10.0
_LIMITS = TimeLimits(connect=SECONDS, first_byte=SECONDS, first_byte_stream=SECONDS, idle=SECONDS)
_OAUTH = "sk-ant-oat"
_MAX_ERROR = 300

_TOOL = {
    "name": "report",
    "description": "Reports that the connection works.",
    "input_schema": {
        "type": "object",
        "properties": {"ok": {"type": "boolean", "description": "Always true."}},
        "required": ["ok"],
    },
}
_PROMPT = "This tests a connection. Call the tool `report` with ok = true, and say nothing else."

_NO_SUCH_MODEL = re.compile(
    r"model\W.{0,80}(not.found|does.not.exist|not.exist|unknown|invalid|not.supported|"
    r"not.available|no.access)"
    r"|(unknown|invalid|unsupported|no.such|not.a.valid|could.not.find).{0,40}model"
    r"|no.endpoints.found|deploymentnotfound",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class ModelResult:
    """How one model answered. `sent` is what it is called there; `milliseconds` until the end.

    `error` and `advice` are for people and hold no secret; both "" where all is well.
    """

    model: str
    sent: str
    ok: bool
    status: int | None
    milliseconds: int
    streamed: bool = False
    called_tool: bool = False
    error: str = ""
    advice: str = ""


def test_providers(
    cases: Sequence[tuple[ProviderSpec, str]],
    models: Sequence[str] = MODELS,
    seconds: float = SECONDS,
) -> list[list[ModelResult]]:
    """The results of each (provider, client's credential), all asked at once.

    Blocks for as long as the slowest, at most `seconds`. To be called from a thread without an
    event loop, as a synchronous view is. The credential is "" where the provider has a key.
    """
    return asyncio.run(_test_all(cases, models, seconds))


test_providers.__test__ = False  # type: ignore[attr-defined] # no test of pytest's


async def _test_all(
    cases: Sequence[tuple[ProviderSpec, str]], models: Sequence[str], seconds: float
) -> list[list[ModelResult]]:
    upstream = UpstreamClient()
    try:
        return [
            list(found)
            for found in await asyncio.gather(
                *(
                    asyncio.gather(
                        *(_test(upstream, spec, secret, model, seconds) for model in models)
                    )
                    for spec, secret in cases
                )
            )
        ]
    finally:
        await upstream.close()


async def _test(
    upstream: UpstreamClient, spec: ProviderSpec, credential: str, model: str, seconds: float
) -> ModelResult:
    target = Target(replace(spec, limits=_LIMITS), spec.map_model(model))
    call = _call(model, credential)
    began = perf_counter()
    result = ModelResult(model, target.model, ok=False, status=None, milliseconds=0)
    try:
        async with asyncio.timeout(seconds):
            reply = await ask(upstream, call, target, last_resort=True)
            result = replace(result, status=reply.status)
            called_tool = await _read(reply)
    except TimeoutError:
        result = replace(result, error=_("no complete answer within %g s") % seconds)
    except AnswerLocally:
        result = replace(result, error=_("answered without asking the provider"))
    except (UpstreamFailure, RequestRefused) as failure:
        result = _failed(result, failure, spec, credential)
    else:
        advice = "" if called_tool else _("It answered, but did not call the tool.")
        result = replace(
            result,
            ok=True,
            streamed=reply.stream is not None,
            called_tool=called_tool,
            advice=advice,
        )
    return replace(result, milliseconds=round((perf_counter() - began) * 1000))


async def _read(reply: Reply) -> bool:
    """Read a reply to its end; whether the tool was called. Raises `UpstreamFailure`."""
    parser = PayloadParser()
    if reply.stream is None:
        return _calls_tool(parser, reply.body)
    try:
        return await _read_stream(reply.stream, parser)
    finally:
        reply.stream.exchange.abandon()


async def _read_stream(stream: OpenStream, parser: PayloadParser) -> bool:
    found, ended = _calls_tool(parser, stream.held), stream.ended
    while not ended and not stream.reader.complete:
        data, ended = await read_on(stream.exchange, stream.reader, Deadline(SECONDS, "idle"))
        found = _calls_tool(parser, data) or found
    if stream.reader.error is not None:
        raise UpstreamRefused(stream.reader.error)
    if not stream.reader.complete:
        raise NetworkFailure("the stream was cut off")
    return found


def _calls_tool(parser: PayloadParser, data: bytes) -> bool:
    blocks = [payload.document.get("content_block") for payload in parser.feed(data)]
    return any(isinstance(block, dict) and block.get("type") == "tool_use" for block in blocks)


def _failed(
    result: ModelResult,
    failure: UpstreamFailure | RequestRefused,
    spec: ProviderSpec,
    credential: str,
) -> ModelResult:
    secrets = [spec.api_key, credential, *(value for _name, value in spec.extra_headers)]
    status = result.status
    if isinstance(failure, UpstreamRefused):
        status = failure.reply.upstream_status or failure.reply.status
    message = redact(failure.message, secrets)[:_MAX_ERROR] or _("no explanation was given")
    advice = _advice(status, failure.message, result)
    return replace(result, status=status, error=message, advice=advice)


def _advice(status: int | None, message: str, result: ModelResult) -> str:
    """What to try next."""
    if status in (400, 404, 422) and _NO_SUCH_MODEL.search(message):
        names = {"model": result.model, "sent": result.sent}
        return _("Add a mapping for %(model)s: nothing is called %(sent)s here.") % names
    if status == 404:
        return _("Check the base URL; if it is right, add a mapping for %s.") % result.model
    if status in (401, 403):
        return _("Check the key, and the header that it is sent in.")
    if status is None:
        return _("Check the base URL, and that this machine may reach it.")
    return ""


def _call(model: str, credential: str) -> Call:
    body = {
        "model": model,
        "max_tokens": 300,
        "stream": True,
        "messages": [{"role": "user", "content": _PROMPT}],
        "tools": [_TOOL],
    }
    return Call(
        request_id="connection-test",
        method="POST",
        path=MESSAGES,
        query=b"",
        headers=[*_BASE_HEADERS, *credential_headers(credential)],
        body=orjson.dumps(body),
        model=model,
        stream=True,
    )


_BASE_HEADERS: HeaderPairs = (
    (b"content-type", b"application/json"),
    (b"anthropic-version", b"2023-06-01"),
)


def credential_headers(credential: str) -> list[tuple[bytes, bytes]]:
    """A client's credential in the header that it belongs in; none for ""."""
    secret = credential.strip()
    if not secret:
        return []
    if secret.startswith(_OAUTH) or secret.lower().startswith("bearer "):
        token = secret.split(None, 1)[-1] if " " in secret else secret
        beta = [(b"anthropic-beta", b"oauth-2025-04-20")] if token.startswith(_OAUTH) else []
        return [(b"authorization", f"Bearer {token}".encode("ascii", "replace")), *beta]
    return [(b"x-api-key", secret.encode("ascii", "replace"))]
