"""No key, token or prompt text gets into the logs, the database or an answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from proxy.call import Call
from proxy.relay import Relay
from proxy.upstream import UpstreamClient
from proxy.wire import UpstreamRequest
from tests.canaries import Canaries, everything_logged, whole_database
from tests.proxy import WITH_DATABASE, Proxy, fallback, primary, running_proxy
from tests.raw_http import Reply
from tests.upstreams import (
    BLOCK,
    START,
    Connection,
    FakeProvider,
    Received,
    Step,
    Then,
    drop,
    error_event,
    message,
    ok,
    raw,
    refuse,
    reply,
    stream,
)

pytestmark = WITH_DATABASE


class Watched:
    """A proxy with every secret in use, and all that it writes."""

    def __init__(self, proxy: Proxy, up: FakeProvider, other: FakeProvider) -> None:
        self.canaries = replace(Canaries(), token=proxy.token)
        self.written = ""
        self._proxy = proxy
        self._up = up
        self._other = other

    async def call(self, first: Step, second: Step, **options: Any) -> Reply:
        """One call with every secret a client has."""
        self._up.script(first)
        self._other.script(second)
        canaries = self.canaries
        body = {
            "model": "claude-test",
            "stream": options.pop("streaming", True),
            "system": canaries.prompt,
            "messages": [{"role": "user", "content": canaries.prompt}],
        }
        headers = [
            ("x-ccf-api-key", canaries.token),
            ("authorization", f"Bearer {canaries.oauth_token}"),
            ("x-api-key", canaries.api_key),
            ("cookie", canaries.cookie),
            ("x-claude-code-session-id", "the-session"),
        ]
        return await self._proxy.call(
            options.pop("body", json.dumps(body).encode()), headers=headers, **options
        )


@asynccontextmanager
async def watched() -> AsyncIterator[Watched]:
    """Runs calls, then looks everywhere."""
    canaries = Canaries()
    extra = {"X-Extra": canaries.extra_header}
    with everything_logged() as stderr:
        async with FakeProvider(ok()) as up, FakeProvider(ok()) as other:
            providers = [
                primary(up, extra_headers=extra),
                fallback(other, "first", api_key=canaries.provider_key, extra_headers=extra),
                fallback(other, "second", api_key=canaries.other_provider_key),
            ]
            async with running_proxy(*providers) as proxy:
                watch = Watched(proxy, up, other)
                yield watch
    # Both have something to say at all: what is looked for would be seen.
    database = await sync_to_async(whole_database)()
    assert "the-session" in database
    assert "request.start" in stderr.getvalue()
    assert "INSERT INTO" in stderr.getvalue()
    watch.written = database + stderr.getvalue()
    assert watch.canaries.found_in(database) == []
    lines = stderr.getvalue().splitlines()
    assert [line for line in lines if watch.canaries.found_in(line)] == []


def careless(answer: Callable[[str], Step]) -> Step:
    """A provider that quotes every header it has got."""

    async def step(connection: Connection, request: Received) -> None:
        words = "; ".join(f"{name.decode()}: {value.decode()}" for name, value in request.headers)
        await answer(f"invalid credentials: {words}")(connection, request)

    return step


SUCCEEDS = [
    ok(),
    careless(lambda words: refuse(429, words)),
    careless(lambda words: reply(401, words.encode())),
    drop(),
]


@pytest.mark.parametrize("streaming", [True, False])
async def test_nothing_leaks_from_calls_that_succeed_or_fall_over(streaming: bool) -> None:
    async with watched() as watch:
        for first in SUCCEEDS:
            answer = await watch.call(first, ok(), streaming=streaming)
            assert answer.status == 200
            assert watch.canaries.found_in(f"{answer.headers} {answer.body!r}") == []


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n-\r\n"


def unspaced(words: str) -> bytes:
    return words.replace(" ", "_").encode()


FAILS = [
    careless(lambda words: refuse(500, words)),
    careless(lambda words: refuse(400, words)),
    careless(lambda words: refuse(401, words)),
    careless(lambda words: reply(502, words.encode())),
    careless(lambda words: reply(302, b"", [(b"location", b"/?" + unspaced(words))])),
    careless(lambda words: message(words.encode())),
    careless(lambda words: message(b'{"error":{"message":"%b"}}' % words.encode())),
    careless(lambda words: stream(START, error_event("api_error", words))),
    careless(lambda words: raw(unspaced(words) + b"\r\n\r\n")),
    careless(lambda words: raw(b"HTTP/1.1 200 OK\r\n" + unspaced(words) + b"\r\n\r\n")),
    careless(lambda words: reply(200, b"", [(b"content-encoding", unspaced(words))])),
    careless(lambda words: stream(words.encode(), Then.CUT)),
    careless(
        lambda words: raw(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n-\r\n" + unspaced(words)
        )
    ),
    drop(),
]


@pytest.mark.parametrize("streaming", [True, False])
async def test_nothing_leaks_from_calls_that_fail(streaming: bool) -> None:
    async with watched() as watch:
        for step in FAILS:
            for target in ("/v1/messages", "/v1/messages/count_tokens", "/v1/files"):
                await watch.call(step, step, streaming=streaming, target=target)


async def test_no_half_of_a_secret_is_left_where_a_text_is_cut_to_length() -> None:
    """Whatever the place at which the history cuts it."""

    dots = bytearray(b"." * 475)

    async def padded(connection: Connection, request: Received) -> None:
        (key,) = request.values("x-api-key")
        await reply(502, bytes(dots) + b" " + key)(connection, request)

    async with watched() as watch:
        while len(dots) < 500:
            await watch.call(drop(), padded)
            dots += b"."


BREAKS = [
    careless(lambda words: stream(START, BLOCK, error_event("api_error", words))),
    careless(lambda words: stream(START, BLOCK, error_event("api_error", words), Then.CUT)),
    careless(lambda words: stream(START, BLOCK, words.encode(), Then.CUT)),
]


async def test_nothing_leaks_from_streams_that_break() -> None:
    async with watched() as watch:
        for step in BREAKS:
            await watch.call(step, ok())
            # And the same at a provider that has seen a key of ours.
            await watch.call(drop(), step)


async def test_nothing_leaks_from_calls_that_are_refused() -> None:
    async with watched() as watch:
        prompt = watch.canaries.prompt.encode()
        for body in (prompt, b'{"model":"' + prompt, b'{"x":"' + prompt + b'"}', b'"' + prompt):
            assert (await watch.call(ok(), ok(), body=body)).status == 400
        right = watch.canaries
        watch.canaries = replace(right, token="qqWrongTokenCanary")
        assert (await watch.call(ok(), ok())).status == 401
        wrong, watch.canaries = watch.canaries, right
        await watch.call(ok(), ok())
    assert wrong.found_in(watch.written) == []


async def test_nothing_leaks_from_calls_that_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is at hand where it crashes may be in the words of an exception."""

    async def crash(self: Relay, call: Call, *others: object) -> None:
        raise RuntimeError(f"{call!r} {others!r}")

    def crash_later(self: UpstreamClient, request: UpstreamRequest, limit: float) -> None:
        raise RuntimeError(f"{request!r}")

    async with watched() as watch:
        await watch.call(ok(), ok())
        with monkeypatch.context() as patch:
            patch.setattr(Relay, "answer", crash)
            answer = await watch.call(ok(), ok())
            assert answer.status == 500
            assert watch.canaries.found_in(answer.body.decode()) == []
        with monkeypatch.context() as patch:
            patch.setattr(UpstreamClient, "send", crash_later)
            for target in ("/v1/messages", "/v1/messages/count_tokens", "/v1/files"):
                assert (await watch.call(ok(), ok(), target=target)).status == 500


async def test_keys_are_encrypted_on_the_disk_and_still_work() -> None:
    async with watched() as watch:
        await watch.call(refuse(429), ok())
        request = watch._other.requests[0]
        assert request.values("x-api-key") == [watch.canaries.provider_key.encode()]
        assert request.values("x-extra") == [watch.canaries.extra_header.encode()]


def test_the_canaries_are_found_where_they_are() -> None:
    canaries = replace(Canaries(), token="sk-ccf-0123456789abcdefghijklmnop")
    for kind, value in vars(canaries).items():
        assert canaries.found_in(f"x {value} y") == [kind]
        assert canaries.found_in(value.upper()) == [kind]
    assert canaries.found_in("nothing of the kind") == []
