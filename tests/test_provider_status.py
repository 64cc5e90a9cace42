"""Who answers now, and when the primary is back: for a status line, and on the terminal."""

from __future__ import annotations

import asyncio
import io
import json
import re
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.db import connections
from django.test import override_settings

from proxy.status import session_figures
from tests.proxy import WITH_DATABASE, Clock, Proxy, fallback, primary, running_proxy
from tests.raw_http import Reply
from tests.upstreams import FakeProvider, ok, rate_limited, refuse, used_up

pytestmark = WITH_DATABASE

HOUR = 3600
PRIMARY = "anthropic-primary"
SETTINGS = {"max_cooldown": 300}
SESSION = "x-claude-code-session-id"


async def status(proxy: Proxy, **arguments: Any) -> Reply:
    return await proxy.call(
        method="GET", **{"target": "/v1/ccf/status", "headers": proxy.headers(), **arguments}
    )


async def test_the_status_needs_a_token() -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        answer = await status(proxy, headers=[("x-ccf-api-key", "sk-ccf-wrong")])
        assert (answer.status, answer.error_type) == (401, "authentication_error")
        assert (await status(proxy, headers=[("x-ccf-api-key", proxy.token)])).status == 200
        assert (await proxy.call(target="/v1/ccf/status")).status == 404
        assert up.requests == []


async def test_the_status_tells_who_answers_why_and_when_the_primary_is_back() -> None:
    clock = Clock()
    async with FakeProvider(used_up(clock.now + HOUR)) as up, FakeProvider(ok()) as other:
        providers = primary(up), fallback(other)
        async with running_proxy(*providers, settings=SETTINGS, clock=clock) as proxy:
            body = (await status(proxy)).json()
            assert (body["provider"], body["reason"]) == ("anthropic-primary", None)
            assert "session" not in body

            await proxy.call()
            clock.advance(60)
            body = (await status(proxy)).json()
            assert body["provider"] == "openrouter"
            assert body["reason"] == "anthropic-primary: 5-hour limit"
            first = body["primary"]
            assert (first["name"], first["state"], first["reason"], first["scope"]) == (
                "anthropic-primary",
                "cooling down",
                "5-hour limit",
                "credential",
            )
            assert first["returns_in"] == HOUR - 60
            assert first["returns_at"].endswith("+00:00")
            assert [line["name"] for line in body["providers"]] == [
                "anthropic-primary",
                "openrouter",
            ]

            clock.advance(HOUR)
            assert (await status(proxy)).json()["provider"] == "anthropic-primary"


async def test_the_status_shows_nobody_the_limits_of_somebody_elses_login() -> None:
    clock = Clock()
    limits = used_up(clock.now + HOUR), rate_limited(600)
    async with FakeProvider(*limits) as up, FakeProvider(ok()) as other:
        providers = primary(up), fallback(other)
        async with running_proxy(*providers, settings=SETTINGS, clock=clock) as proxy:
            await proxy.call()
            await proxy.call(headers=proxy.headers("sk-ant-oat01-of-somebody-else"))
            token_alone = [("x-ccf-api-key", proxy.token)]
            strangers = proxy.headers("sk-ant-oat01-who-is-new-here")
            for headers in (token_alone, strangers):
                answer = await status(proxy, headers=headers)
                assert "limit" not in answer.body.decode()
                body = answer.json()
                assert (body["provider"], body["primary"]["state"]) == (PRIMARY, "healthy")
            others = await status(proxy, headers=proxy.headers("sk-ant-oat01-of-somebody-else"))
            assert others.json()["primary"]["reason"] == "rate limit (this model)"
            assert (await status(proxy)).json()["primary"]["reason"] == "5-hour limit"


async def test_the_status_shows_everybody_what_concerns_all() -> None:
    async with FakeProvider(rate_limited(600)) as first, FakeProvider(ok()) as second:
        providers = fallback(first, "first"), fallback(second, "second")
        async with running_proxy(*providers, settings=SETTINGS, clock=Clock()) as proxy:
            await proxy.call()
            body = (await status(proxy, headers=[("x-ccf-api-key", proxy.token)])).json()
            assert (body["provider"], body["primary"]["scope"]) == ("second", "model")


async def test_the_status_of_a_single_model_names_it() -> None:
    async with FakeProvider(rate_limited(600)) as up, FakeProvider(ok()) as other:
        providers = primary(up), fallback(other)
        async with running_proxy(*providers, settings=SETTINGS, clock=Clock()) as proxy:
            await proxy.call()
            first = (await status(proxy)).json()["primary"]
            assert (first["scope"], first["model"]) == ("model", "claude-test")


async def test_when_all_are_closed_the_status_names_who_will_be_asked() -> None:
    async with FakeProvider(rate_limited(900)) as first, FakeProvider(rate_limited(600)) as second:
        providers = fallback(first, "first"), fallback(second, "second")
        async with running_proxy(*providers, settings=SETTINGS, clock=Clock()) as proxy:
            await proxy.call()
            body = (await status(proxy)).json()
            assert body["provider"] == "second"
            assert body["reason"] == "first: rate limit (this model)"


async def test_the_status_counts_the_calls_of_a_session() -> None:
    async with FakeProvider(refuse(529), ok()) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            mine = [(SESSION, "session-a")]
            for extra in (mine, mine, mine, [(SESSION, "session-b")], []):
                await proxy.call(extra=extra)
            await proxy.call(target="/v1/messages/count_tokens", extra=mine)
            await proxy.log(6)
            figures = {
                "id": "session-a",
                "calls": 3,
                "fallbacks": 1,
                "last_provider": "anthropic-primary",
            }
            asked = (
                await status(proxy, extra=mine),
                await status(proxy, target="/v1/ccf/status?session=session-a"),
            )
            assert [answer.json()["session"] for answer in asked] == [figures, figures]
            unknown = await status(proxy, target="/v1/ccf/status?session=unknown")
            assert unknown.json()["session"] == {
                "id": "unknown",
                "calls": 0,
                "fallbacks": 0,
                "last_provider": None,
            }


async def test_asking_again_and_again_takes_one_connection_to_the_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used = set()

    def noting(session_id: str) -> dict[str, Any]:
        connections["default"].ensure_connection()
        used.add(id(connections["default"].connection))
        return session_figures(session_id)

    monkeypatch.setattr("proxy.views.session_figures", noting)
    async with running_proxy() as proxy:
        target = "/v1/ccf/status?session=a"
        await asyncio.gather(*(status(proxy, target=target) for _ in range(20)))
        assert len(used) == 1


@sync_to_async
def printed(*arguments: str) -> str:
    output = io.StringIO()
    call_command("provider_status", *arguments, stdout=output)
    return output.getvalue()


async def test_the_command_shows_what_the_workers_know() -> None:
    clock = Clock()
    async with (
        FakeProvider(used_up(clock.now + 2 * HOUR - 30)) as up,
        FakeProvider(refuse(500)) as failing,
        FakeProvider(ok()) as other,
    ):
        providers = primary(up), fallback(failing, "failing"), fallback(other)
        async with running_proxy(*providers, settings=SETTINGS) as proxy:
            assert len((await printed()).splitlines()) == 3
            await proxy.call()
            await proxy.call()
            await proxy.share()
            first, second, third = (await printed()).splitlines()
            assert re.fullmatch(
                r"anthropic-primary +cooling down until \S+ "
                r"\(5-hour limit, one login\), (1 h 59|2 h 0) min left",
                first,
            )
            assert second.split(maxsplit=1) == ["failing", "failing (2 failures in a row)"]
            assert third.split() == ["openrouter", "healthy"]

            lines = json.loads(await printed("--json"))
            assert [line["returns_in"] is None for line in lines] == [False, True, True]
            live = (await status(proxy)).json()["providers"]
            for line in (*lines, *live):
                del line["returns_in"]  # a second may have passed
            assert lines == live
            assert lines[1]["last_error"] == "no"


async def test_the_command_shows_disabled_providers_too_in_their_order() -> None:
    providers = fallback("http://one", "one", enabled=False), fallback("http://two", "two")
    async with running_proxy(*providers):
        first, second = (await printed()).splitlines()
        assert (first.split(), second.split()) == (["one", "disabled"], ["two", "healthy"])
        lines = json.loads(await printed("--json"))
        assert [line["state"] for line in lines] == ["disabled", "healthy"]
        assert lines[0].keys() == lines[1].keys()


async def test_the_command_says_whose_key_cannot_be_read() -> None:
    async with running_proxy(fallback("http://one", "one")):
        with override_settings(ENCRYPTION_KEYS=[Fernet.generate_key().decode()]):
            assert (await printed()).splitlines()[0].split() == ["one", "key", "unreadable"]


async def test_a_cooldown_for_everybody_goes_before_the_longer_limit_of_one_login() -> None:
    clock = Clock()
    limit = used_up(clock.now + 2 * HOUR)
    async with FakeProvider(limit, refuse(500)) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other), settings=SETTINGS) as proxy:
            await proxy.call()
            for _ in range(3):
                await proxy.call(headers=proxy.headers("sk-ant-oat01-of-somebody-else"))
            await proxy.share()
            assert "(3 failures in a row (500)), 0 min" in await printed()
            mine = (await status(proxy)).json()["primary"]
            assert (mine["scope"], mine["reason"]) == ("credential", "5-hour limit")
            token_alone = await status(proxy, headers=[("x-ccf-api-key", proxy.token)])
            assert token_alone.json()["primary"]["scope"] == "provider"


async def test_the_command_says_that_there_is_no_provider() -> None:
    async with running_proxy():
        assert await printed() == "No provider is enabled.\n"
        assert json.loads(await printed("--json")) == []
