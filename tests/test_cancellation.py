"""A client that goes away is nobody's failure, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import random

import pytest

from proxy.runtime import Runtime
from tests.proxy import WITH_DATABASE, Proxy, body_of, fallback, primary, running_proxy, until
from tests.upstreams import (
    BLOCK,
    HELLO,
    START,
    STREAM,
    FakeProvider,
    Gate,
    Then,
    drop,
    error_event,
    hang,
    message,
    ok,
    refuse,
    stream,
)

pytestmark = WITH_DATABASE

WITHIN = 1.0
"""Seconds in which an upstream has to hear that its client has left."""


def nothing_left(runtime: Runtime) -> bool:
    """No exchange, and no connection that is not idle."""
    return not runtime.upstream.open_exchanges


async def assert_forgotten(proxy: Proxy, up: FakeProvider) -> None:
    await until(lambda: not up.open, "the upstream connection is closed", WITHIN)
    await until(lambda: nothing_left(proxy.runtime), "the exchange is over", WITHIN)


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("streaming", [True, False])
async def test_leaving_before_the_answer_cancels_the_upstream(streaming: bool, reset: bool) -> None:
    async with FakeProvider(hang()) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up, retries=3), fallback(other)) as proxy:
            async with proxy.open(body_of(streaming)) as client:
                await until(lambda: bool(up.requests), "the provider was asked")
                client.leave(reset=reset)
                await assert_forgotten(proxy, up)
            (call,) = await proxy.log(1)
            ((attempt,),) = await proxy.attempts()
            assert (call.outcome, call.status, call.provider) == ("cancelled", None, "")
            assert (attempt.result, attempt.status) == ("cancelled", None)
            assert len(up.requests) == 1
            assert other.requests == []


async def test_leaving_while_the_stream_is_held_back_cancels_the_upstream() -> None:
    async with FakeProvider(stream(START, Then.HANG)) as up:
        async with running_proxy(primary(up)) as proxy:
            async with proxy.open() as client:
                await until(lambda: bool(up.requests), "the provider was asked")
                client.leave()
                await assert_forgotten(proxy, up)
            (call,) = await proxy.log(1)
            assert call.outcome == "cancelled"


@pytest.mark.parametrize("reset", [True, False])
async def test_leaving_a_quiet_stream_cancels_the_upstream(reset: bool) -> None:
    async with FakeProvider(stream(START, BLOCK, Then.HANG)) as up:
        async with running_proxy(primary(up)) as proxy:
            async with proxy.open() as client:
                await client.head()
                assert await client.chunk() == START + BLOCK
                client.leave(reset=reset)
                await assert_forgotten(proxy, up)
            (call,) = await proxy.log(1)
            ((attempt,),) = await proxy.attempts()
            assert (call.outcome, call.status, call.provider) == (
                "cancelled",
                200,
                "anthropic-primary",
            )
            assert (attempt.result, attempt.error_type) == ("200", "")


async def test_leaving_a_stream_that_is_pouring_in_cancels_the_upstream() -> None:
    """A client that does not read stops the provider: buffers are bounded."""
    flood = [HELLO * 500] * 2000
    async with FakeProvider(stream(START, BLOCK, *flood, Then.HANG)) as up:
        async with running_proxy(primary(up)) as proxy:
            async with proxy.open() as client:
                await client.head()
                client.leave()
                await assert_forgotten(proxy, up)
            (call,) = await proxy.log(1)
            assert call.outcome == "cancelled"
            assert call.bytes_out < len(b"".join(flood))


async def test_leaving_after_the_last_event_is_a_proper_end() -> None:
    async with FakeProvider(stream(*STREAM, Then.HANG)) as up:
        async with running_proxy(primary(up)) as proxy:
            async with proxy.open() as client:
                await client.head()
                data = b""
                while not data.endswith(STREAM[-1]):
                    data += await client.chunk()
                client.leave()
                await assert_forgotten(proxy, up)
            (call,) = await proxy.log(1)
            assert call.outcome == "answered"


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/v1/messages/count_tokens"),
        ("GET", "/v1/models"),
        ("POST", "/v1/messages/batches"),
    ],
)
async def test_leaving_any_other_endpoint_cancels_the_upstream(method: str, target: str) -> None:
    async with FakeProvider(hang()) as up, running_proxy(primary(up)) as proxy:
        async with proxy.open(method=method, target=target) as client:
            await until(lambda: bool(up.requests), "the provider was asked")
            client.leave()
            await assert_forgotten(proxy, up)
        (call,) = await proxy.log(1)
        ((attempt,),) = await proxy.attempts()
        assert (call.outcome, attempt.result) == ("cancelled", "cancelled")


async def test_leaving_while_a_retry_waits_ends_the_call() -> None:
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.Event().wait()

    async with FakeProvider(refuse(500)) as up:
        async with running_proxy(primary(up, retries=3), sleep=wait) as proxy:
            async with proxy.open() as client:
                await until(lambda: bool(waits), "a retry waits")
                client.leave()
                (call,) = await proxy.log(1)
            ((attempt,),) = await proxy.attempts()
            assert (call.outcome, attempt.result, len(up.requests)) == ("cancelled", "500", 1)


async def test_leaving_in_the_middle_of_the_request_asks_nobody() -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        async with proxy.open(method="GET", target="/healthz") as client:
            await client.reply()
            head = [f"{n}: {v}" for n, v in [*proxy.headers(), ("content-length", "1000")]]
            lines = ["POST /v1/messages HTTP/1.1", "host: x", *head, "", '{"model":']
            await client.send_raw("\r\n".join(lines).encode())
            await until(lambda: not proxy.runtime.live_calls.none.is_set(), "the call has begun")
            client.leave()
            await until(lambda: proxy.runtime.live_calls.none.is_set(), "the call is over", WITHIN)
        await proxy.stop()
        assert up.requests == []
        assert await proxy.log(0) == []


async def test_hundreds_of_calls_cancelled_at_random_leave_nothing_behind() -> None:
    chance = random.Random(20260101)
    gates = [asyncio.Event() for _ in range(4)]
    for gate in gates:
        asyncio.get_running_loop().call_later(2 * chance.random(), gate.set)

    def any_step() -> object:
        return chance.choice(
            [
                ok(),
                hang(),
                drop(),
                refuse(529),
                stream(START, BLOCK, Then.HANG),
                stream(START, Then.HANG),
                stream(START, BLOCK, HELLO, Then.CUT),
                stream(START, BLOCK, HELLO, Then.RESET),
                stream(START, BLOCK, *[HELLO * 50] * 50, *STREAM[5:]),
                stream(START, BLOCK, error_event()),
                Gate(message(), chance.choice(gates)),
                Gate(stream(*STREAM), chance.choice(gates)),
            ]
        )

    async def one(proxy: Proxy) -> None:
        async with proxy.open(body_of(stream=chance.random() < 0.7)) as client:
            if chance.random() < 0.6:
                await asyncio.sleep(chance.choice([0, 0.001, 0.01, 0.1]) * chance.random())
                client.leave(reset=chance.random() < 0.5)
                return
            await client.reply()

    async def worker(proxy: Proxy, calls: int) -> None:
        for _ in range(calls):
            await one(proxy)

    steps = [any_step() for _ in range(1200)]
    async with FakeProvider(*steps, ok()) as up, FakeProvider(ok()) as other:  # type: ignore[arg-type]
        limits = {"first_byte_limit": 0.2, "first_byte_stream_limit": 0.2, "idle_limit": 0.2}
        async with running_proxy(primary(up, **limits), fallback(other)) as proxy:
            before = asyncio.all_tasks()
            await asyncio.gather(*[worker(proxy, 20) for _ in range(25)])
            await until(lambda: nothing_left(proxy.runtime), "every exchange is over")
            await until(lambda: proxy.runtime.live_calls.none.is_set(), "every call is over")
            await until(
                lambda: len(up.open) + len(other.open) == kept_alive(proxy.runtime),
                "no connection is open but those that are kept alive",
            )
            serving = {task for fake in (up, other) for task in fake._tasks}
            await until(
                lambda: not (asyncio.all_tasks() - before - serving), "no task is left behind"
            )
            rows = await proxy.log(1)
            assert all(call.outcome for call in rows)
            up.script(ok())
            assert (await proxy.call()).body == b"".join(STREAM)


def kept_alive(runtime: Runtime) -> int:
    return runtime.upstream.pool.idle
