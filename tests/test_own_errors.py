"""What the proxy itself refuses, in Anthropic's envelope."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from providers.models import AccessToken
from proxy.runtime import Runtime
from tests.proxy import (
    CLIENT_KEY,
    WITH_DATABASE,
    body_of,
    fallback,
    primary,
    running_proxy,
    until,
)
from tests.raw_http import Reply
from tests.upstreams import FakeProvider, ok, refuse

pytestmark = WITH_DATABASE


def assert_envelope(answer: Reply, status: int, kind: str) -> str:
    """The message of an error of the proxy's own."""
    assert answer.status == status
    assert answer["content-type"] == "application/json"
    document = answer.json()
    assert document.keys() == {"type", "error", "request_id"}
    assert document["type"] == "error"
    assert document["error"].keys() == {"type", "message"}
    assert document["error"]["type"] == kind
    assert document["request_id"] == answer["request-id"] == answer["ccr-request-id"]
    return str(document["error"]["message"])


WITHOUT_TOKEN: list[list[tuple[str, str]]] = [
    [],
    [("authorization", f"Bearer {CLIENT_KEY}")],
    [("x-api-key", "sk-ccf-wrong")],
    [("x-ccf-api-key", "sk-ccf-wrong")],
    [("x-ccf-api-key", "")],
    [("authorization", "Bearer ")],
    [("authorization", "Basic c2stY2NmLXdyb25n")],
]


@pytest.mark.parametrize("target", ["/v1/messages", "/v1/messages/count_tokens", "/v1/files"])
async def test_without_a_valid_token_nothing_is_relayed(target: str) -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        for headers in WITHOUT_TOKEN:
            answer = await proxy.call(headers=headers, target=target)
            assert_envelope(answer, 401, "authentication_error")
            assert answer["x-should-retry"] == "false"
        assert up.requests == []


async def test_the_refusal_says_what_to_do() -> None:
    async with running_proxy() as proxy:
        message = assert_envelope(await proxy.call(headers=[]), 401, "authentication_error")
        assert "ANTHROPIC_CUSTOM_HEADERS" in message
        wrong = await proxy.call(headers=[("x-ccf-api-key", "sk-ccf-wrong")])
        message = assert_envelope(wrong, 401, "authentication_error")
        assert "unknown" in message
        assert "sk-ccf-wrong" not in message


@pytest.mark.parametrize("gone", ["deleted", "disabled"])
async def test_a_token_that_is_gone_no_longer_opens(gone: str) -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        assert (await proxy.call()).status == 200

        @sync_to_async
        def take_away() -> None:
            row = AccessToken.objects.get()
            if gone == "deleted":
                row.delete()
            else:
                row.enabled = False
                row.save()

        await take_away()

        async def closed() -> bool:
            return (await proxy.call()).status == 401

        await until(closed, "the proxy is closed", 3)
        # Not even with an empty table.
        assert (await proxy.call(headers=[])).status == 401


async def test_anonymous_clients_are_served_where_that_is_allowed(
    settings: Any,
) -> None:
    settings.ALLOW_ANONYMOUS = True
    async with FakeProvider(ok()) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            own = [("authorization", f"Bearer {CLIENT_KEY}")]
            assert (await proxy.call(headers=own))["x-ccf-provider"] == "anthropic-primary"
            assert up.requests[0].values("authorization") == [own[0][1].encode()]
            assert (await proxy.call(headers=[]))["x-ccf-provider"] == "openrouter"
            # A token is still known, and still taken out.
            await proxy.call()
            assert proxy.token.encode() not in up.requests[-1].everything
            calls = await proxy.log(3)
            assert [call.token for call in calls] == ["", "", "the test's client"]


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
async def test_a_token_that_is_no_longer_known_is_not_sent_to_a_provider(header: str) -> None:
    stale = "sk-ccf-disabled-a-week-ago"
    async with FakeProvider(ok()) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            value = f"Bearer {stale}" if header == "authorization" else stale
            headers = [("x-ccf-api-key", proxy.token), (header, value)]
            assert (await proxy.call(headers=headers))["x-ccf-provider"] == "openrouter"
            assert up.requests == []
            assert stale.encode() not in other.requests[0].everything


async def test_a_token_is_known_by_its_hash_alone() -> None:
    async with running_proxy() as proxy:
        row = await sync_to_async(AccessToken.objects.get)()
        assert row.digest == hashlib.sha256(proxy.token.encode()).hexdigest()
        assert proxy.token not in repr(row.__dict__)


UNROUTABLE = [
    b"",
    b"{",
    b"not json",
    b'{"model":"m"',
    b'{"model":"m"} x',
    b'{"model":"m",}',
    b"[" * 100_000,
    b'{"model":' + b"[" * 100_000,
    b"\xff\xfe",
    b'["model"]',
    b'"model"',
    b"null",
    b"7",
    b"{}",
    b'{"model":null}',
    b'{"model":7}',
    b'{"model":["m"]}',
    b'{"model":""}',
    b'{"model":"\\ud800m"}',
    b'{"model":"m\\u0000"}',
    b'\xef\xbb\xbf{"model":"m"}',
    '{"model":"m"}'.encode("utf-16"),
    '{"model":"m"}'.encode("utf-16-le"),
    b'{"x":{"model":"m"}}',
]


async def test_a_body_that_cannot_be_routed_is_refused() -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        for body in UNROUTABLE:
            for target in ("/v1/messages", "/v1/messages/count_tokens"):
                answer = await proxy.call(body, target=target)
                assert answer.status == 400, body[:40]
                assert_envelope(answer, 400, "invalid_request_error")
        assert up.requests == []


ODD = [
    b'{"model":"m","x":"\\ud83d"}',
    b'{"model":"m","\\ud83d":1}',
    b'{"model":"m","x":NaN}',
    b'{"model":"m","x":"\xff"}',
    b'{"model":"m","model":"m","stream":"yes"}',
    b'\n {"model":"m"}\n',
]


async def test_what_a_provider_may_judge_is_relayed() -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        for body in ODD:
            up.script(ok())
            assert (await proxy.call(body)).status == 200, body
            assert up.requests[0].body == body
            up.script(refuse(404))
            count = await proxy.call(body, target="/v1/messages/count_tokens")
            assert count.json()["input_tokens"] >= 1


async def test_a_body_over_the_limit_is_refused(settings: Any) -> None:
    settings.MAX_BODY_BYTES = 100_000
    fits = body_of(stream=False, x="")
    fits = body_of(stream=False, x="y" * (100_000 - len(fits)))
    assert len(fits) == 100_000
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        assert (await proxy.call(fits)).status == 200
        for body in (fits + b" ", fits * 2):
            answer = await proxy.call(body)
            message = assert_envelope(answer, 413, "request_too_large")
            assert "100000" in message
        assert len(up.requests) == 1


def test_the_limit_is_anthropics_own_by_default(settings: Any) -> None:
    assert settings.MAX_BODY_BYTES == 32 * 1024 * 1024


async def test_without_a_provider_the_client_hears_what_to_do() -> None:
    async with running_proxy() as proxy:
        answer = await proxy.call()
        message = assert_envelope(answer, 502, "api_error")
        assert "enable one in the proxy's admin" in message
        assert answer["x-should-retry"] == "false"


async def test_without_credentials_and_fallbacks_the_client_hears_what_to_do() -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        answer = await proxy.call(headers=[("x-ccf-api-key", proxy.token)])
        message = assert_envelope(answer, 502, "api_error")
        assert "Log in to Claude" in message
        assert up.requests == []


async def test_a_crash_is_an_error_in_the_envelope_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:

        def crash(self: Runtime) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(Runtime, "snapshot", property(crash))
        answer = await proxy.call(extra=[("ccr-request-id", "mine-1")])
        assert (answer.status, answer.error_type) == (500, "api_error")
        assert answer.json()["request_id"] == answer["ccr-request-id"] == "mine-1"
        assert b"a bug" not in answer.body
        monkeypatch.undo()
        assert (await proxy.call()).status == 200
