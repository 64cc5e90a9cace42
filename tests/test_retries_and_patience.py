"""Who may be asked again: what else is left, patience, and the budget of a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.proxy import WITH_DATABASE, Clock, body_of, chat, fallback, primary, running_proxy
from tests.upstreams import (
    BLOCK,
    JSON_TYPE,
    MESSAGE,
    START,
    STREAM,
    Connection,
    FakeProvider,
    Gate,
    Received,
    Step,
    drop,
    either,
    message,
    ok,
    rate_limited,
    refuse,
    reply,
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


@pytest.mark.parametrize(("seconds", "asked"), [(b"30", 1), (b"0", 2), (b"soon", 2)])
async def test_who_says_when_it_will_be_back_is_not_asked_before(
    seconds: bytes, asked: int
) -> None:
    sleep = Sleep()
    overloaded = refuse(529, headers=[(b"retry-after", seconds)])
    async with FakeProvider(overloaded, ok()) as up:
        async with running_proxy(fallback(up, retries=3), sleep=sleep) as proxy:
            answer = await proxy.call()
            assert (len(up.requests), len(sleep.waits)) == (asked, asked - 1)
            assert answer.status == (529 if asked == 1 else 200)


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


async def test_patience_does_not_wait_for_money() -> None:
    """A quota that is used up comes as a 429, but says that our key has no credit."""
    body = b'{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}'
    step = reply(429, body, [JSON_TYPE, (b"retry-after", b"7")])
    sleep = Sleep()
    async with FakeProvider(step) as up:
        async with running_proxy(chat(up), settings={"patience": 60}, sleep=sleep) as proxy:
            assert (await proxy.call()).status == 502
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


BUDGET = {"call_budget": 1}
"""The smallest there is, in seconds."""


def past_the_budget(step: Callable[[asyncio.Event], Step]) -> Step:
    """A step with an event that comes when the budget of the call that it answers is spent."""

    async def timed(connection: Connection, request: Received) -> None:
        late = asyncio.Event()
        asyncio.get_running_loop().call_later(1.1, late.set)
        await step(late)(connection, request)

    return timed


async def test_the_budget_ends_no_answer_that_is_on_its_way() -> None:
    slow = past_the_budget(
        lambda late: either(stream(START, BLOCK, late, *STREAM[3:]), Gate(message(), late))
    )
    async with FakeProvider(slow) as up, running_proxy(fallback(up), settings=BUDGET) as proxy:
        streamed, whole = await asyncio.gather(
            proxy.call(body_of(stream=True)), proxy.call(body_of(stream=False))
        )
        assert (streamed.status, streamed.aborted) == (200, False)
        assert streamed.body == START + BLOCK + b"".join(STREAM[3:])
        assert (whole.status, whole.body) == (200, MESSAGE)


async def test_no_attempt_begins_after_the_budget_not_even_a_repaired_one() -> None:
    refused = refuse(400, "foo: Extra inputs are not permitted", "invalid_request_error")
    slow = past_the_budget(lambda late: Gate(refused, late))
    async with FakeProvider(slow) as up, FakeProvider(ok()) as other:
        providers = fallback(up, "up"), fallback(other, "other")
        async with running_proxy(*providers, settings=BUDGET) as proxy:
            answer = await proxy.call(body_of(stream=False, foo=1))
            assert (answer.status, answer["x-ccf-attempts"]) == (400, "up=400")
