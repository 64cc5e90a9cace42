"""Upstreams are asked not to compress; one that does all the same is decoded as it comes."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest

from tests.proxy import WITH_DATABASE, body_of, fallback, primary, running_proxy
from tests.upstreams import (
    BLOCK,
    HELLO,
    JSON_TYPE,
    MESSAGE,
    START,
    STREAM,
    STREAM_TYPE,
    FakeProvider,
    Part,
    Step,
    ok,
    reply,
    stream,
)

pytestmark = WITH_DATABASE


def packed_as(name: str, data: bytes) -> bytes:
    if name == "identity":
        return data
    return zlib.compress(data) if name == "deflate" else gzip.compress(data)


def encoded(name: str) -> list[tuple[bytes, bytes]]:
    return [STREAM_TYPE, (b"content-encoding", name.encode())]


@pytest.mark.parametrize("name", ["gzip", "GZIP", "x-gzip", "deflate", "identity"])
async def test_a_compressed_answer_is_decoded(name: str) -> None:
    whole = b"".join(STREAM)
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        up.script(
            reply(200, packed_as(name, MESSAGE), [JSON_TYPE, (b"content-encoding", name.encode())])
        )
        answer = await proxy.call(body_of(stream=False))
        assert (answer.body, answer["content-encoding"]) == (MESSAGE, None)
        assert answer["content-length"] == str(len(MESSAGE))
        packed = packed_as(name, whole)
        up.script(stream(*[packed[i : i + 1] for i in range(len(packed))], headers=encoded(name)))
        answer = await proxy.call()
        assert (answer.body, answer.aborted) == (whole, False)
        assert answer["content-encoding"] is None


async def test_a_compressed_stream_is_decoded_as_it_comes() -> None:
    packer = zlib.compressobj(wbits=31)
    gate = asyncio.Event()

    def packed(data: bytes) -> bytes:
        return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)

    parts: list[Part] = [packed(START + BLOCK), gate, packed(HELLO)]
    async with FakeProvider(stream(*parts, headers=encoded("gzip"))) as up:
        async with running_proxy(primary(up)) as proxy, proxy.open() as client:
            await client.head()
            assert await client.chunk() == START + BLOCK
            gate.set()
            assert await client.chunk() == HELLO


BOMB = gzip.compress(b"\0" * (80 * 1024 * 1024))
STREAM_BOMB = gzip.compress(b"data: " + b"x" * (80 * 1024 * 1024))
GZIP = (b"content-encoding", b"gzip")


async def test_a_bomb_is_given_up_before_it_is_unpacked() -> None:
    async with FakeProvider(ok()) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            up.script(reply(200, BOMB, [JSON_TYPE, GZIP]))
            await proxy.call(body_of(stream=False))
            up.script(reply(200, STREAM_BOMB, encoded("gzip")))
            await proxy.call()
            for first, _ in await proxy.attempts(2):
                assert first.error_message == "the compressed reply expands beyond all bounds"


@pytest.mark.parametrize(
    ("step", "result"),
    [
        (reply(200, gzip.compress(MESSAGE)[:-9], [JSON_TYPE, GZIP]), "network"),
        (reply(200, b"\x1f\x8b garbage", [JSON_TYPE, GZIP]), "invalid"),
        (reply(200, MESSAGE, [JSON_TYPE, GZIP]), "invalid"),
        (reply(200, MESSAGE, [JSON_TYPE, (b"content-encoding", b"br")]), "invalid"),
        (reply(200, MESSAGE, [JSON_TYPE, (b"content-encoding", b"gzip, gzip")]), "invalid"),
    ],
    ids=["truncated", "garbage", "not compressed", "unknown", "twice"],
)
async def test_a_message_that_cannot_be_decoded_is_a_failure(step: Step, result: str) -> None:
    async with FakeProvider(step) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            answer = await proxy.call(body_of(stream=False))
            assert answer["x-ccf-attempts"] == f"anthropic-primary={result},openrouter=200"
            assert answer.body == MESSAGE


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (gzip.compress(START)[:-9], "network"),
        (b"\x1f\x8b garbage", "invalid"),
    ],
    ids=["truncated", "garbage"],
)
async def test_a_stream_that_cannot_be_decoded_is_a_failure(body: bytes, result: str) -> None:
    async with FakeProvider(reply(200, body, encoded("gzip"))) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            answer = await proxy.call()
            assert answer["x-ccf-attempts"] == f"anthropic-primary={result},openrouter=200"


async def test_a_compressed_stream_that_is_cut_off_after_the_commit_is_aborted() -> None:
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(START + BLOCK + HELLO) + packer.flush(zlib.Z_SYNC_FLUSH)
    async with FakeProvider(stream(packed, headers=encoded("gzip"))) as up:
        async with running_proxy(primary(up)) as proxy:
            answer = await proxy.call()
            assert (answer.body, answer.aborted) == (START + BLOCK + HELLO, True)
