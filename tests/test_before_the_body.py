"""Who may ask is settled before a body is read, and who may not hears so all the same."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from fallbackproxy import handler
from tests.proxy import WITH_DATABASE, Proxy, body_of, primary, running_proxy
from tests.raw_http import RawConnection
from tests.upstreams import FakeProvider, ok

pytestmark = WITH_DATABASE

MEGABYTE = 1024 * 1024


def head(proxy: Proxy, *extra: str, token: bool = False, target: str = "/v1/messages") -> bytes:
    lines = [f"POST {target} HTTP/1.1", "host: x", *extra]
    lines += [f"x-ccf-api-key: {proxy.token if token else 'sk-ccf-wrong'}"]
    return "\r\n".join([*lines, "", ""]).encode()


async def test_a_stranger_who_uploads_hears_the_refusal_and_may_go_on() -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        async with await RawConnection.to(proxy.port) as connection:
            await connection.send("POST", "/v1/messages", (), b"x" * 8 * MEGABYTE)
            answer = await connection.reply()
            assert (answer.status, answer.error_type) == (401, "authentication_error")
            # The body was read to its end: the connection is in order.
            await connection.send("POST", "/v1/messages", proxy.headers(), body_of(stream=False))
            assert (await connection.reply()).status == 200
        assert len(up.requests) == 1


async def test_a_strangers_body_is_not_kept() -> None:
    async with running_proxy() as proxy, await RawConnection.to(proxy.port) as connection:
        await connection.send_raw(head(proxy, f"content-length: {24 * MEGABYTE}"))
        for _ in range(23):
            await connection.send_raw(b"x" * MEGABYTE)
        held = [o for o in gc.get_objects() if isinstance(o, list) and _weight(o) > 2 * MEGABYTE]
        assert held == []
        await connection.send_raw(b"x" * MEGABYTE)
        assert (await connection.reply()).status == 401


def _weight(items: list[Any]) -> int:
    return sum(len(item) for item in items if isinstance(item, bytes))


async def test_who_asks_before_sending_a_body_is_refused_without_it() -> None:
    async with running_proxy() as proxy, await RawConnection.to(proxy.port) as connection:
        expecting = head(proxy, "expect: 100-continue", f"content-length: {MEGABYTE}")
        await connection.send_raw(expecting)
        answer = await connection.reply()
        assert (answer.status, answer["connection"]) == (401, "close")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await connection.head()


async def test_who_asks_before_sending_a_body_and_may_is_told_to_go_on() -> None:
    body = body_of(stream=False)
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        async with await RawConnection.to(proxy.port) as connection:
            await connection.send_raw(
                head(
                    proxy,
                    "expect: 100-continue",
                    f"content-length: {len(body)}",
                    "authorization: Bearer mine",
                    token=True,
                )
            )
            assert (await connection.head())[0] == 100
            await connection.send_raw(body)
            assert (await connection.reply()).status == 200


@pytest.mark.parametrize("target", ["/v1/messages", "/api/event_logging/batch"])
async def test_an_endless_body_is_not_read_to_its_end(settings: Any, target: str) -> None:
    settings.MAX_BODY_BYTES = 1000
    async with running_proxy() as proxy, await RawConnection.to(proxy.port) as connection:
        await connection.send_raw(head(proxy, "transfer-encoding: chunked", target=target))
        await connection.send_raw(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        answer = await connection.reply()
        assert answer.status == (401 if target == "/v1/messages" else 200)


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "DRAIN_SECONDS", 0.05)
    async with running_proxy() as proxy, await RawConnection.to(proxy.port) as connection:
        await connection.send_raw(head(proxy, "content-length: 10") + b"x")
        assert (await connection.reply()).status == 401


async def test_a_stranger_who_leaves_amid_the_upload_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running_proxy() as proxy:
        connection = await RawConnection.to(proxy.port)
        await connection.send_raw(head(proxy, "content-length: 10") + b"x")
        connection.leave()
        assert (await proxy.call(method="GET", target="/healthz")).status == 200
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_the_greeting_needs_no_token_and_takes_any_body() -> None:
    async with running_proxy() as proxy:
        batch = b"x" * 3 * MEGABYTE
        answer = await proxy.call(batch, target="/api/event_logging/batch", headers=[])
        assert (answer.status, answer.body) == (200, b"{}")
