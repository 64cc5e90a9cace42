"""The client gets what the provider answered: its bytes, its headers, at once."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from tests.proxy import WITH_DATABASE, body_of, fallback, primary, running_proxy
from tests.raw_http import Reply
from tests.upstreams import (
    BLOCK,
    BLOCK_STOP,
    DELTA,
    HELLO,
    JSON_TYPE,
    MESSAGE,
    PING,
    START,
    STOP,
    STREAM,
    STREAM_TYPE,
    WORLD,
    FakeProvider,
    event,
    message,
    ok,
    refuse,
    reply,
    stream,
)

pytestmark = WITH_DATABASE

UNKNOWN = event("invented_tomorrow", index=7, payload={"a": [1, 2]})
COMMENT = b": keep-alive\n\n"
OURS = ("ccr-request-id", "x-ccf-provider", "x-ccf-attempts")
FRAMING = ("transfer-encoding", "content-length", "connection")


def theirs(reply: Reply) -> list[tuple[str, str]]:
    """The headers that are neither ours nor the framing of our connection."""
    return [pair for pair in reply.headers if pair[0] not in OURS + FRAMING]


async def test_nothing_is_sent_before_the_first_content_and_everything_at_once_after_it() -> None:
    gates = [asyncio.Event() for _ in range(6)]
    steps = [BLOCK, HELLO, PING, UNKNOWN, WORLD, BLOCK_STOP + DELTA + STOP]
    parts = [part for pair in zip(gates, steps, strict=True) for part in pair]
    async with FakeProvider(stream(START, PING, COMMENT, *parts)) as up:
        async with running_proxy(primary(up)) as proxy, proxy.open() as client:
            head = asyncio.create_task(client.head())
            done, _ = await asyncio.wait([head], timeout=0.15)
            assert not done, "the proxy answered before there was any content"
            gates[0].set()
            assert (await head)[0] == 200
            assert await client.chunk() == START + PING + COMMENT + BLOCK
            # Each event arrives before the provider may send the next one.
            for gate, data in zip(gates[1:], steps[1:], strict=True):
                gate.set()
                assert await client.chunk() == data
            assert await client.chunk() == b""


async def test_a_stream_arrives_byte_for_byte() -> None:
    odd = [
        START,
        b": comment\r\n\r\n",
        PING,
        b"event: content_block_start\r\nid: 7\r\nretry: 10\r\n"
        b'data: {"type":"content_block_start",\r\ndata:  "index":0}\r\n\r\n',
        BLOCK,
        b"data: not json\n\n",
        b"data:\n\n",
        UNKNOWN,
        HELLO,
        DELTA,
        STOP,
    ]
    async with FakeProvider(stream(*odd)) as up, running_proxy(primary(up)) as proxy:
        reply = await proxy.call()
        assert (reply.status, reply.aborted) == (200, False)
        assert reply.body == b"".join(odd)


async def test_what_follows_the_last_event_is_relayed_too() -> None:
    async with FakeProvider(stream(*STREAM, b"data: [DONE]\n\n")) as up:
        async with running_proxy(primary(up)) as proxy:
            assert (await proxy.call()).body == b"".join(STREAM) + b"data: [DONE]\n\n"


async def test_a_message_arrives_byte_for_byte() -> None:
    odd = MESSAGE.replace(b"{", b"{ \n", 1).replace(b"msg_2", b"msg_\\u00e9\xc3\xa9\\ud83d")
    async with FakeProvider(message(odd)) as up, running_proxy(primary(up)) as proxy:
        reply = await proxy.call(body_of(stream=False))
        assert (reply.status, reply.body) == (200, odd)


UPSTREAM_HEADERS = [
    (b"request-id", b"req_upstream"),
    (b"retry-after", b"7"),
    (b"anthropic-ratelimit-unified-status", b"allowed_warning"),
    (b"anthropic-ratelimit-unified-reset", b"1790000000"),
    (b"anthropic-organization-id", b"org-1"),
    (b"x-repeated", b"a"),
    (b"cf-ray", b"abc"),
    (b"x-repeated", b"b"),
    (b"server", b"cloudflare"),
    (b"date", b"Mon, 01 Jan 2029 00:00:00 GMT"),
    (b"x-latin", b"caf\xe9"),
    (b"x-should-retry", b"true"),
]
NOT_FOR_CLIENTS = [
    (b"set-cookie", b"_cfuvid=secret"),
    (b"alt-svc", b'h3=":443"'),
    (b"strict-transport-security", b"max-age=1"),
    (b"keep-alive", b"timeout=5"),
    (b"connection", b"keep-alive, x-hop"),
    (b"x-hop", b"1"),
    (b"x-ccf-provider", b"forged"),
    (b"x-ccf-attempts", b"forged"),
    (b"ccr-request-id", b"of another proxy"),
]


@pytest.mark.parametrize("kind", ["stream", "message", "refusal", "other endpoint"])
async def test_every_header_arrives_but_those_of_the_connection_and_the_site(kind: str) -> None:
    headers = [*UPSTREAM_HEADERS, *NOT_FOR_CLIENTS]
    steps = {
        "stream": stream(*STREAM, headers=[STREAM_TYPE, *headers]),
        "message": message(headers=headers),
        "refusal": refuse(400, headers=headers),
        "other endpoint": reply(200, b"{}", [JSON_TYPE, *headers]),
    }
    target = "/v1/files" if kind == "other endpoint" else "/v1/messages"
    async with FakeProvider(steps[kind]) as up, running_proxy(primary(up)) as proxy:
        answer = await proxy.call(body_of(stream=kind == "stream"), target=target)
    content_type = STREAM_TYPE if kind == "stream" else JSON_TYPE
    expected = [content_type, *UPSTREAM_HEADERS]
    assert theirs(answer) == [(n.decode(), v.decode("latin-1")) for n, v in expected]
    assert answer["x-ccf-provider"] == "anthropic-primary"
    assert (answer["ccr-request-id"] or "").startswith("req_")


async def test_an_answer_says_who_gave_it_and_what_was_tried() -> None:
    async with FakeProvider(refuse(429)) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            for stream_flag in (True, False):
                reply = await proxy.call(body_of(stream=stream_flag))
                assert reply["x-ccf-provider"] == "openrouter"
                assert reply["x-ccf-attempts"] == "anthropic-primary=429,openrouter=200"


async def test_a_providers_name_is_made_fit_for_a_header() -> None:
    async with FakeProvider(ok()) as up:
        async with running_proxy(primary(up, name="Añejo, größer=1")) as proxy:
            reply = await proxy.call()
            assert reply["x-ccf-provider"] == "A%C3%B1ejo%2C gr%C3%B6%C3%9Fer%3D1"
            assert reply["x-ccf-attempts"] == "A%C3%B1ejo%2C gr%C3%B6%C3%9Fer%3D1=200"


@pytest.mark.parametrize("failing", [False, True])
async def test_the_request_id_is_the_clients_own_where_it_sent_one(failing: bool) -> None:
    async with FakeProvider(refuse(500) if failing else ok()) as up:
        async with running_proxy(primary(up)) as proxy:
            reply = await proxy.call(extra=[("ccr-request-id", "my-own-1")])
            assert reply["ccr-request-id"] == "my-own-1"
            for unusable in ("", "with space", "x" * 129):
                reply = await proxy.call(extra=[("ccr-request-id", unusable)])
                assert (reply["ccr-request-id"] or "").startswith("req_")
            assert (await proxy.call())["ccr-request-id"] != (await proxy.call())["ccr-request-id"]


async def test_an_error_passes_byte_for_byte() -> None:
    body = b'{ "type":"error","error":{"type":"invalid_request_error","message":"x: \\u00e9"} }\n'
    headers = [JSON_TYPE, (b"request-id", b"req_9"), (b"x-should-retry", b"false")]
    async with FakeProvider(reply(400, body, headers)) as up:
        async with running_proxy(primary(up)) as proxy:
            answer = await proxy.call()
            assert (answer.status, answer.body) == (400, body)
            assert (answer["request-id"], answer["x-should-retry"]) == ("req_9", "false")


async def test_a_compressed_error_is_readable() -> None:
    body = b'{"type":"error","error":{"type":"not_found_error","message":"model: x"}}'
    headers = [JSON_TYPE, (b"content-encoding", b"gzip")]
    async with FakeProvider(reply(404, gzip.compress(body), headers)) as up:
        async with running_proxy(primary(up)) as proxy:
            answer = await proxy.call()
            assert (answer.status, answer.body) == (404, body)
            assert answer["content-encoding"] is None
