"""A long cooldown is tried out with one real call now and then, and it costs nobody anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.proxy import (
    WITH_DATABASE,
    Clock,
    Proxy,
    body_of,
    fallback,
    primary,
    running_proxy,
    until,
)
from tests.raw_http import Reply
from tests.upstreams import (
    BLOCK,
    START,
    STREAM,
    FakeProvider,
    Gate,
    Step,
    Then,
    hang,
    ok,
    rate_limited,
    refuse,
    stream,
    used_up,
)

pytestmark = WITH_DATABASE

INTERVAL = 300
HOUR = 3600
SETTINGS = {"max_cooldown": 300, "probe_interval": INTERVAL}
SERVED = "anthropic-primary=200"
SKIPPED = "anthropic-primary=skipped,openrouter=200"


class Closed:
    """A proxy whose primary has said that it is used up for hours."""

    def __init__(self, proxy: Proxy, up: FakeProvider, clock: Clock) -> None:
        self.proxy = proxy
        self.up = up
        self.clock = clock

    async def trail(self) -> str | None:
        answer = await self.proxy.call()
        assert answer.status == 200
        return answer["x-ccf-attempts"]

    async def after(self, seconds: float) -> None:
        """So much later; the worker has found out what it may probe."""
        self.clock.advance(seconds)
        await self.proxy.share()

    async def line(self) -> dict[str, Any]:
        """What the status page says of the primary."""
        answer = await self.proxy.call(method="GET", target="/v1/ccf/status")
        primary: dict[str, Any] = answer.json()["primary"]
        return primary


@asynccontextmanager
async def closed(step: Step | None = None, **fields: Any) -> AsyncIterator[Closed]:
    clock = Clock()
    limit = step or used_up(clock.now + 5 * HOUR)
    async with FakeProvider(limit) as up, FakeProvider(ok()) as other:
        providers = primary(up, **fields), fallback(other)
        async with running_proxy(*providers, settings=SETTINGS, clock=clock) as proxy:
            case = Closed(proxy, up, clock)
            assert await case.trail() == "anthropic-primary=429,openrouter=200"
            assert await case.trail() == SKIPPED
            up.script(ok())
            yield case


async def test_the_first_probe_comes_one_interval_after_closing() -> None:
    async with closed() as case:
        await case.after(INTERVAL - 1)
        assert await case.trail() == SKIPPED
        await case.after(1)
        assert await case.trail() == SERVED
        assert await case.trail() == SERVED


async def test_a_cooldown_that_is_shorter_than_the_interval_is_sat_out() -> None:
    async with closed(rate_limited(INTERVAL)) as case:
        await case.after(INTERVAL - 1)
        assert await case.trail() == SKIPPED


async def test_a_token_count_takes_no_ones_probe() -> None:
    async with closed() as case:
        await case.after(INTERVAL)
        for _ in range(2):
            answer = await case.proxy.call(target="/v1/messages/count_tokens")
            assert (answer["x-ccf-attempts"] or "").startswith("anthropic-primary=skipped")
        assert case.up.requests == []
        assert await case.trail() == SERVED


async def test_of_many_calls_at_once_exactly_one_probes() -> None:
    async with closed() as case:
        await case.after(INTERVAL)
        gate = Gate(ok())
        case.up.script(gate)
        calls = [asyncio.create_task(case.trail()) for _ in range(20)]
        await until(lambda: sum(call.done() for call in calls) == 19, "nobody waits but the probe")
        await case.proxy.share()
        assert [call.result() for call in calls if call.done()] == [SKIPPED] * 19
        assert await case.trail() == SKIPPED
        assert len(case.up.requests) == 1
        assert (await case.line())["state"] == "probing"
        gate.event.set()
        assert sorted([str(await call) for call in calls]) == [SERVED] + [SKIPPED] * 19
        assert await case.trail() == SERVED


async def test_a_failed_probe_costs_the_client_nothing_and_changes_no_end() -> None:
    async with closed(retries=3, retry_first=True) as case:
        before = await case.line()
        for step in (
            refuse(529),
            stream(START, Then.CUT),
            used_up(case.clock.now + 100 * HOUR),
            refuse(401, kind="authentication_error"),
        ):
            await case.after(INTERVAL)
            case.up.script(step)
            answer = await case.proxy.call()
            assert (answer.status, answer.body) == (200, b"".join(STREAM))
            assert len(case.up.requests) == 1
            await case.proxy.share()
            assert await case.trail() == SKIPPED
        after = await case.line()
        assert after["returns_at"] == before["returns_at"]
        assert (after["failures"], after["reason"]) == (0, "5-hour limit")
        assert len(case.up.requests) == 1


async def test_after_a_failed_probe_the_next_one_waits_another_interval() -> None:
    async with closed() as case:
        await case.after(INTERVAL)
        case.up.script(refuse(529), ok())
        assert await case.trail() == "anthropic-primary=529,openrouter=200"
        await case.after(INTERVAL - 1)
        assert await case.trail() == SKIPPED
        await case.after(1)
        assert await case.trail() == SERVED


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_client_that_leaves_gives_its_probe_to_the_next_one(streaming: bool) -> None:
    async with closed() as case:
        await case.after(INTERVAL)
        case.up.script(hang(), ok())
        async with case.proxy.open(body_of(streaming)) as client:
            await until(lambda: bool(case.up.requests), "the primary is probed")
            client.leave()
        await case.proxy.log(3)
        assert await case.trail() == SKIPPED  # it has to be claimed anew
        await case.proxy.share()
        assert await case.trail() == SERVED


async def test_a_probe_that_is_not_sent_after_all_is_given_to_the_next_call() -> None:
    """A call that is too long for the primary goes elsewhere without asking it."""
    async with closed(context_window=8000) as case:
        await case.after(INTERVAL)
        long = body_of(messages=[{"role": "user", "content": "word " * 20_000}])
        assert (await case.proxy.call(long))["x-ccf-attempts"] == SKIPPED
        assert case.up.requests == []
        await case.proxy.share()
        assert await case.trail() == SKIPPED  # wanted anew, and claimed by the next turn
        await case.proxy.share()
        assert await case.trail() == SERVED


async def test_a_request_that_the_primary_refuses_proves_nothing() -> None:
    async with closed() as case:
        await case.after(INTERVAL)
        case.up.script(refuse(400, "max_tokens: required", "invalid_request_error"), ok())
        assert (await case.proxy.call()).status == 400
        assert await case.trail() == SKIPPED
        await case.proxy.share()
        assert await case.trail() == SERVED


async def test_a_probe_reopens_at_once_even_while_its_stream_is_running() -> None:
    async with closed() as case:
        await case.after(INTERVAL)
        gate = asyncio.Event()
        case.up.script(stream(START, BLOCK, gate, *STREAM[3:]), ok())
        async with case.proxy.open() as client:
            assert (await client.head())[0] == 200
            assert await client.chunk() == START + BLOCK
            assert await case.trail() == SERVED
            assert (await case.line())["state"] == "healthy"
            gate.set()
            rest = b""
            while data := await client.chunk():
                rest += data
            assert rest == b"".join(STREAM[3:])


async def test_a_probe_is_told_in_the_log_and_in_the_history(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with closed() as case:
        await case.after(INTERVAL)
        answer: Reply = await case.proxy.call()
        assert answer["x-ccf-provider"] == "anthropic-primary"
        probes = [r for r in caplog.records if r.getMessage() == "circuit_breaker.probe"]
        assert [r.fields["provider"] for r in probes] == ["anthropic-primary"]  # type: ignore[attr-defined]
        *_, (attempt,) = await case.proxy.attempts(3)
        assert (attempt.kind, attempt.result) == ("tried", "200")
