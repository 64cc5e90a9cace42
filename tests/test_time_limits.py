"""Separate limits: until a connection, until the first content, and between bytes; and retries."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.proxy import WITH_DATABASE, body_of, fallback, primary, running_proxy
from tests.upstreams import (
    BLOCK,
    HELLO,
    MESSAGE,
    PING,
    START,
    STREAM,
    Connection,
    FakeProvider,
    Received,
    Step,
    Then,
    drop,
    hang,
    message,
    ok,
    refuse,
    stream,
)

pytestmark = WITH_DATABASE


@contextlib.contextmanager
def unreachable() -> Iterator[str]:
    """A URL at which connecting takes for ever: its queue of connections is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_a_connection_that_is_not_made_in_time_is_passed_over() -> None:
    with unreachable() as url:
        async with FakeProvider(ok()) as other:
            provider = primary(url, connect_limit=0.2, first_byte_stream_limit=30)
            async with running_proxy(provider, fallback(other)) as proxy:
                answer = await proxy.call()
                assert answer["x-ccf-attempts"] == "anthropic-primary=timeout,openrouter=200"
                ((attempt, _),) = await proxy.attempts()
                assert attempt.error_message == "connect limit of 0.2 s exceeded"


async def test_the_first_byte_limit_covers_the_connection_too() -> None:
    with unreachable() as url:
        async with FakeProvider(ok()) as other:
            provider = primary(url, connect_limit=0.8, first_byte_stream_limit=0.2)
            async with running_proxy(provider, fallback(other)) as proxy:
                await proxy.call()
                ((attempt, _),) = await proxy.attempts()
                assert attempt.error_message == "first byte limit of 0.2 s exceeded"


def pinging(every: float) -> Step:
    """A stream that says nothing but pings, for as long as somebody listens."""

    async def step(connection: Connection, request: Received) -> None:
        await stream(START, headers=[], end=False)(connection, request)
        while True:
            await connection.send(b"%x\r\n%b\r\n" % (len(PING), PING))
            await asyncio.sleep(every)

    return step


async def test_pings_do_not_put_off_the_first_byte_limit() -> None:
    async with FakeProvider(pinging(0.02)) as up, FakeProvider(ok()) as other:
        provider = primary(up, first_byte_stream_limit=0.3, idle_limit=0.1)
        async with running_proxy(provider, fallback(other)) as proxy:
            answer = await proxy.call()
            assert answer["x-ccf-attempts"] == "anthropic-primary=timeout,openrouter=200"
            ((attempt, _),) = await proxy.attempts()
            assert attempt.error_message == "first byte limit of 0.3 s exceeded"
            assert (attempt.error_type, attempt.status) == ("timeout_error", None)


async def test_streams_and_messages_have_limits_of_their_own() -> None:
    async with FakeProvider(hang()) as up, FakeProvider(ok()) as other:
        limits = {"first_byte_stream_limit": 0.2, "first_byte_limit": 0.3}
        async with running_proxy(primary(up, **limits), fallback(other)) as proxy:
            await proxy.call(body_of(stream=True))
            await proxy.call(body_of(stream=False))
            attempts = await proxy.attempts(2)
            assert [first.error_message for first, _ in attempts] == [
                "first byte limit of 0.2 s exceeded",
                "first byte limit of 0.3 s exceeded",
            ]


async def test_a_healthy_stream_has_no_limit_as_a_whole() -> None:
    """It takes longer than any of its limits, and no silence in it does."""
    pause = 0.2

    async def slowly(connection: Connection, request: Received) -> None:
        await stream(START, BLOCK, end=False)(connection, request)
        for part in (HELLO, PING, HELLO, *STREAM[-3:]):
            await asyncio.sleep(pause)
            await connection.send(b"%x\r\n%b\r\n" % (len(part), part))
        await connection.send(b"0\r\n\r\n")

    limits = {"first_byte_stream_limit": 0.9, "idle_limit": 0.9}
    async with FakeProvider(slowly) as up:
        async with running_proxy(primary(up, **limits), settings={"call_budget": 1}) as proxy:
            answer = await proxy.call()
            assert (answer.status, answer.aborted) == (200, False)
            (call,) = await proxy.log(1)
            assert call.duration_ms > 1000


async def test_silence_after_the_commit_breaks_the_stream() -> None:
    async with FakeProvider(stream(START, BLOCK, Then.HANG)) as up:
        async with running_proxy(primary(up, idle_limit=0.2)) as proxy:
            assert (await proxy.call()).aborted
            (call,) = await proxy.log(1)
            assert (call.outcome, call.error) == ("broken", "idle limit of 0.2 s exceeded")


async def test_silence_in_a_message_is_a_failure() -> None:
    async def half(connection: Connection, request: Received) -> None:
        await stream(MESSAGE[:10], end=False)(connection, request)
        await connection.until_peer_leaves()

    async with FakeProvider(half) as up, FakeProvider(ok()) as other:
        provider = primary(up, first_byte_limit=30, idle_limit=0.2)
        async with running_proxy(provider, fallback(other)) as proxy:
            assert (await proxy.call(body_of(stream=False))).body == MESSAGE
            ((attempt, _),) = await proxy.attempts()
            assert attempt.error_message == "idle limit of 0.2 s exceeded"


async def test_an_error_that_trickles_does_not_keep_others_waiting() -> None:
    async def trickle(connection: Connection, request: Received) -> None:
        await connection.send(b"HTTP/1.1 503 No\r\ntransfer-encoding: chunked\r\n\r\n")
        while not connection.over:
            await connection.send(b"1\r\nx\r\n")
            await asyncio.sleep(0.05)

    async with FakeProvider(trickle) as up, FakeProvider(ok()) as other:
        provider = primary(up, first_byte_stream_limit=0.3)
        async with running_proxy(provider, fallback(other)) as proxy:
            answer = await proxy.call()
            assert answer["x-ccf-attempts"] == "anthropic-primary=503,openrouter=200"


# --- retries ------------------------------------------------------------------


class Naps:
    """Stands for the waits between retries."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)

    def double(self) -> bool:
        """Half a second, then twice as long each time, give or take a quarter."""
        return all(
            0.375 * 2**number <= nap <= 0.625 * 2**number for number, nap in enumerate(self.taken)
        )


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.mark.parametrize("step", [refuse(500), refuse(502), refuse(503), refuse(529), drop()])
async def test_the_only_provider_is_asked_again_after_a_pause_that_doubles(
    step: Step, naps: Naps
) -> None:
    async with FakeProvider(step, step, step, ok()) as up:
        async with running_proxy(primary(up, retries=4), sleep=naps) as proxy:
            answer = await proxy.call()
            assert answer.status == 200
            assert len(up.requests) == 4
            assert len(naps.taken) == 3
            assert naps.double()
            (attempts,) = await proxy.attempts()
            assert [a.kind for a in attempts] == ["tried", "retried", "retried", "retried"]


async def test_retries_come_to_an_end(naps: Naps) -> None:
    async with FakeProvider(refuse(503)) as up:
        async with running_proxy(primary(up, retries=2), sleep=naps) as proxy:
            assert (await proxy.call()).status == 503
            assert (len(up.requests), len(naps.taken)) == (3, 2)


@pytest.mark.parametrize(
    "step",
    [refuse(429), refuse(401), refuse(403), refuse(408), refuse(400), message(b"<html>")],
)
async def test_what_is_neither_5xx_nor_network_is_not_tried_again(step: Step, naps: Naps) -> None:
    async with FakeProvider(step) as up:
        async with running_proxy(primary(up, retries=3), sleep=naps) as proxy:
            await proxy.call(body_of(stream=False))
            assert (len(up.requests), naps.taken) == (1, [])


async def test_silence_is_not_tried_again(naps: Naps) -> None:
    async with FakeProvider(hang()) as up:
        provider = primary(up, retries=3, first_byte_stream_limit=0.2)
        async with running_proxy(provider, sleep=naps) as proxy:
            assert (await proxy.call()).status == 504
            assert (len(up.requests), naps.taken) == (1, [])


async def test_nobody_is_asked_again_while_somebody_else_could_answer(naps: Naps) -> None:
    async with FakeProvider(refuse(500)) as up, FakeProvider(refuse(500), ok()) as other:
        first, last = primary(up, retries=3), fallback(other, retries=3)
        async with running_proxy(first, last, sleep=naps) as proxy:
            answer = await proxy.call()
            assert answer["x-ccf-attempts"] == (
                "anthropic-primary=500,openrouter=500,openrouter=200"
            )
            assert len(naps.taken) == 1


async def test_a_provider_can_be_set_to_be_asked_again_first(naps: Naps) -> None:
    async with FakeProvider(refuse(500), ok()) as up, FakeProvider(ok()) as other:
        first = primary(up, retries=3, retry_first=True)
        async with running_proxy(first, fallback(other), sleep=naps) as proxy:
            answer = await proxy.call()
            assert answer["x-ccf-attempts"] == "anthropic-primary=500,anthropic-primary=200"
            assert other.requests == []
            (call,) = await proxy.log(1)
            assert not call.fell_back


async def test_a_stream_that_dies_before_its_content_is_tried_again(naps: Naps) -> None:
    async with FakeProvider(stream(START, Then.CUT), ok()) as up:
        async with running_proxy(primary(up, retries=1), sleep=naps) as proxy:
            assert (await proxy.call()).body == b"".join(STREAM)
            assert len(naps.taken) == 1
