"""Who may be asked again: what else is left, patience, and the budget of a call."""

from __future__ import annotations

import asyncio

import pytest

from tests.proxy import WITH_DATABASE, Clock, body_of, fallback, primary, running_proxy
from tests.upstreams import (
    BLOCK,
    MESSAGE,
    START,
    STREAM,
    FakeProvider,
    Gate,
    Step,
    drop,
    either,
    message,
    ok,
    rate_limited,
    refuse,
    stream,
    used_up,
)

pytestmark = WITH_DATABASE


class Sleep:
    """Waits no time, and remembers how long that would have been."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.waits: list[float] = []
        self._clock = clock

    async def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)
        if self._clock is not None:
            self._clock.advance(seconds)


async def test_whoever_is_left_counts_as_the_last_provider() -> None:
    async with FakeProvider(refuse(404)) as up, FakeProvider(rate_limited(900)) as closed:
        providers = fallback(up, "up", retries=1), fallback(closed, "closed")
        settings = {"max_cooldown": 300}
        async with running_proxy(*providers, settings=settings, sleep=Sleep()) as proxy:
            assert (await proxy.call())["x-ccf-attempts"] == "up=404,closed=429"
            up.script(refuse(500), ok())
            assert (await proxy.call())["x-ccf-attempts"] == "up=500,up=200"


async def test_a_retry_that_the_budget_has_no_time_for_is_not_begun() -> None:
    sleep = Sleep()
    async with FakeProvider(refuse(500)) as up:
        providers, settings = primary(up, retries=10), {"call_budget": 3}
        async with running_proxy(providers, settings=settings, sleep=sleep) as proxy:
            assert (await proxy.call()).status == 500
            # 0.5, 1 and 2 s, give or take; the fourth pause of 4 s would outlast the budget.
            assert len(sleep.waits) == 3


# --- patience ------------------------------------------------------------------


async def test_patience_waits_as_long_as_it_is_told_and_asks_everybody_again() -> None:
    clock = Clock()
    sleep = Sleep(clock)
    async with (
        FakeProvider(rate_limited(3600)) as first,
        FakeProvider(rate_limited(7), ok()) as second,
    ):
        providers = fallback(first, "first"), fallback(second, "second")
        settings = {"patience": 10, "max_cooldown": 300}
        async with running_proxy(*providers, settings=settings, sleep=sleep, clock=clock) as proxy:
            answer = await proxy.call()
            assert (answer.status, answer.body) == (200, b"".join(STREAM))
            expected = "first=429,second=429,first=skipped,second=200"
            assert (answer["x-ccf-attempts"], sleep.waits) == (expected, [7])


@pytest.mark.parametrize(
    ("settings", "step"),
    [
        ({"patience": 0}, rate_limited(7)),
        ({"patience": 6}, rate_limited(7)),
        ({"patience": 60, "call_budget": 6}, rate_limited(7)),
        ({"patience": 60}, refuse(429)),
        ({"patience": 60}, refuse(429, headers=[(b"retry-after", b"soon")])),
        ({"patience": 60}, refuse(400, headers=[(b"retry-after", b"7")])),
        ({"patience": 60}, refuse(401, headers=[(b"retry-after", b"7")])),
        ({"patience": 60}, drop()),
    ],
    ids=[
        "none",
        "too little",
        "no time",
        "no hint",
        "no number",
        "a complaint",
        "our key",
        "no answer",
    ],
)
async def test_patience_ends(settings: dict[str, int], step: Step) -> None:
    sleep = Sleep()
    async with FakeProvider(step) as up:
        async with running_proxy(fallback(up), settings=settings, sleep=sleep) as proxy:
            assert (await proxy.call()).status >= 400
            assert (len(up.requests), sleep.waits) == (1, [])


async def test_patience_does_not_wait_while_somebody_else_answers() -> None:
    clock = Clock()
    sleep = Sleep(clock)
    async with FakeProvider(used_up(clock.now + 60)) as up, FakeProvider(ok()) as other:
        providers, settings = (primary(up), fallback(other)), {"patience": 60}
        async with running_proxy(*providers, settings=settings, sleep=sleep) as proxy:
            answer = await proxy.call()
            assert (answer.status, sleep.waits) == (200, [])


# --- the budget of a call --------------------------------------------------------


async def test_the_budget_ends_no_answer_that_is_on_its_way() -> None:
    late = asyncio.Event()
    asyncio.get_running_loop().call_later(1.2, late.set)
    running = stream(START, BLOCK, late, *STREAM[3:])
    async with FakeProvider(either(running, Gate(message(), late))) as up:
        async with running_proxy(fallback(up), settings={"call_budget": 1}) as proxy:
            streamed, whole = await asyncio.gather(
                proxy.call(body_of(stream=True)), proxy.call(body_of(stream=False))
            )
            assert (streamed.status, streamed.aborted) == (200, False)
            assert streamed.body == START + BLOCK + b"".join(STREAM[3:])
            assert (whole.status, whole.body) == (200, MESSAGE)


async def test_no_attempt_begins_after_the_budget_not_even_a_repaired_one() -> None:
    """The refusal takes longer than the whole call may."""
    late = asyncio.Event()
    asyncio.get_running_loop().call_later(1.2, late.set)
    refused = refuse(400, "foo: Extra inputs are not permitted", "invalid_request_error")
    async with FakeProvider(Gate(refused, late)) as up, FakeProvider(ok()) as other:
        providers = fallback(up, "up"), fallback(other, "other")
        async with running_proxy(*providers, settings={"call_budget": 1}) as proxy:
            answer = await proxy.call(body_of(stream=False, foo=1))
            assert (answer.status, answer["x-ccf-attempts"]) == (400, "up=400")
