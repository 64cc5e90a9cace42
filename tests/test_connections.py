"""Connections to providers are kept, and one that has died in the meantime is nobody's failure."""

from __future__ import annotations

import asyncio
import gc

import pytest

from proxy.call import Call
from proxy.requests import ApiRequest
from proxy.wire import UpstreamRequest
from tests.proxy import WITH_DATABASE, body_of, fallback, primary, running_proxy, until
from tests.upstreams import (
    BLOCK,
    MESSAGE,
    START,
    STOP,
    Connection,
    FakeProvider,
    Received,
    Step,
    drop,
    message,
    ok,
    stream,
)

pytestmark = WITH_DATABASE


def reset() -> Step:
    async def step(connection: Connection, request: Received) -> None:
        connection.reset()

    return step


async def test_a_connection_is_used_again() -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        for streaming in (True, False, True):
            assert (await proxy.call(body_of(streaming))).status == 200
        assert [request.connection for request in up.requests] == [1, 1, 1]


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("death", [drop(), reset()], ids=["closed", "reset"])
async def test_a_kept_connection_that_dies_is_replaced_once_and_is_nobodys_failure(
    death: Step, streaming: bool
) -> None:
    async with FakeProvider(ok(), death, ok()) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            await proxy.call(body_of(streaming))
            answer = await proxy.call(body_of(streaming))
            assert (answer.status, answer["x-ccf-attempts"]) == (200, "anthropic-primary=200")
            assert [request.connection for request in up.requests] == [1, 1, 2]
            # The whole request went out again.
            assert up.requests[1].body == up.requests[2].body == body_of(streaming)
            _, (attempt,) = await proxy.attempts(2)
            assert (attempt.kind, attempt.result) == ("tried", "200")


async def test_several_kept_connections_that_have_died_are_passed_over() -> None:
    gate = asyncio.Event()

    async def together(connection: Connection, request: Received) -> None:
        if len(up.requests) == 3:
            gate.set()
        await gate.wait()
        await message()(connection, request)

    async with FakeProvider(together) as up, running_proxy(primary(up)) as proxy:
        calls = [proxy.call(body_of(stream=False)) for _ in range(3)]
        assert [answer.status for answer in await asyncio.gather(*calls)] == [200] * 3
        up.script(drop(), drop(), drop(), message())
        assert (await proxy.call(body_of(stream=False))).body == MESSAGE
        assert sorted(request.connection for request in up.requests) == [1, 2, 3, 4]


async def test_a_new_connection_that_dies_is_a_failure() -> None:
    async with FakeProvider(drop()) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            answer = await proxy.call()
            assert answer["x-ccf-attempts"] == "anthropic-primary=network,openrouter=200"
            assert len(up.requests) == 1


async def test_a_connection_that_dies_twice_is_a_failure() -> None:
    async with FakeProvider(ok(), drop()) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            await proxy.call()
            answer = await proxy.call()
            assert answer["x-ccf-attempts"] == "anthropic-primary=network,openrouter=200"
            assert [request.connection for request in up.requests] == [1, 1, 2]


async def test_a_connection_that_the_provider_has_closed_meanwhile_is_not_used() -> None:
    async def answer_and_close(connection: Connection, request: Received) -> None:
        await message()(connection, request)
        connection.close()

    async with FakeProvider(answer_and_close) as up, running_proxy(primary(up)) as proxy:
        for number in range(3):
            assert (await proxy.call(body_of(stream=False))).status == 200
            await until(lambda: not up.open, "the provider has closed its side")
            assert len(up.requests) == number + 1


async def test_many_calls_of_one_client_run_at_once() -> None:
    gate = asyncio.Event()

    async def together(connection: Connection, request: Received) -> None:
        if len(up.requests) == 120:
            gate.set()
        await gate.wait()
        await message()(connection, request)

    async with FakeProvider(together) as up, running_proxy(primary(up)) as proxy:
        calls = [proxy.call(body_of(stream=False)) for _ in range(120)]
        assert {answer.status for answer in await asyncio.gather(*calls)} == {200}


@pytest.mark.parametrize("proxied", [False, True])
async def test_nothing_holds_on_to_a_request_while_its_reply_streams(
    proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    async with FakeProvider(stream(START, BLOCK, gate, STOP)) as up:
        monkeypatch.setenv("NO_PROXY", "" if proxied else "*")
        monkeypatch.setenv("HTTP_PROXY", up.url)
        async with running_proxy(fallback(up)) as proxy, proxy.open() as client:
            await client.head()
            await client.chunk()
            gc.collect()  # what other tests have left in cycles
            held = [x for x in gc.get_objects() if isinstance(x, Call | UpstreamRequest)]
            assert held == []
            requests = [x for x in gc.get_objects() if isinstance(x, ApiRequest)]
            assert all(x.take_body() == b"" for x in requests)
            gate.set()


async def test_cookies_of_one_client_do_not_reach_another() -> None:
    cookie = (b"set-cookie", b"session=of-the-first-client; Path=/")
    async with FakeProvider(message(headers=[cookie])) as up:
        async with running_proxy(primary(up)) as proxy:
            for _ in range(2):
                assert (await proxy.call(body_of(stream=False)))["set-cookie"] is None
            assert [request.values("cookie") for request in up.requests] == [[], []]


async def test_an_interim_reply_is_passed_over() -> None:
    async def early_hints(connection: Connection, request: Received) -> None:
        await connection.send(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
        await stream(b"data: {}\n\n", b'data: {"type":"message_delta"}\n\n')(connection, request)

    async with FakeProvider(early_hints) as up, running_proxy(primary(up)) as proxy:
        assert (await proxy.call()).status == 200
