"""The primary gets what the client sent; other providers get none of the client's secrets."""

from __future__ import annotations

import pytest

from tests.proxy import (
    CLIENT_KEY,
    PROVIDER_KEY,
    WITH_DATABASE,
    Proxy,
    body_of,
    fallback,
    primary,
    running_proxy,
)
from tests.upstreams import FakeProvider, Received, names, ok, refuse

pytestmark = WITH_DATABASE

ODD_BODY = (
    b'{ "model" :"claude-test",\n\t"stream": true,  "n":123456789012345678901234567890,'
    b'"f":1.10000,"e":1E400,"t":"\\u00e9\\ud83d\\ude00\\/ \xc3\xa9","x":[ ] , "a":{},"a":{}}  \n'
)
ADDED_BY_US = [b"host", b"content-length", b"accept-encoding"]


async def sent(proxy: Proxy, up: FakeProvider, **options: object) -> Received:
    """What the provider gets of one call."""
    reply = await proxy.call(**options)  # type: ignore[arg-type]
    assert reply.status == 200, reply.body
    return up.requests[-1]


def relayed(request: Received) -> list[tuple[bytes, bytes]]:
    return [pair for pair in request.headers if pair[0] not in ADDED_BY_US]


async def test_the_body_arrives_byte_for_byte() -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        for body in (ODD_BODY, body_of(stream=False), b'{"model":"m","x":"\xc3\xa9"}'):
            assert (await sent(proxy, up, body=body)).body == body


async def test_a_large_body_arrives_byte_for_byte() -> None:
    body = body_of(stream=False, padding="0123456789abcdef" * 131072)
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        assert (await sent(proxy, up, body=body)).body == body


QUERIES = [b"beta=true", b"a=%2f%2F&b=+%20&&c", b"x=%zz&=1", b"q=a/b?c", b"x=%E9%ff"]
QUERIES += [b'j={"a":[1]}', b"x=1;y=2&z[]=3", b"x=" + b"y" * 4000]


async def test_the_query_string_arrives_byte_for_byte() -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        for query in QUERIES:
            request = await sent(proxy, up, target=b"/v1/messages?" + query)
            assert request.target == b"/v1/messages?" + query


async def test_every_header_arrives_in_order_with_its_duplicates() -> None:
    headers = [
        ("x-second", "2"),
        ("anthropic-beta", "one-2025-01-01,two-2025-01-01"),
        ("anthropic-version", "2023-06-01"),
        ("x-stainless-retry-count", "0"),
        ("x-repeated", "a"),
        ("user-agent", "claude-cli/2.1.330 (external, cli)"),
        ("x-repeated", "b"),
        ("x_under_score", "kept"),
        ("x-latin", "caf\xe9"),
        ("anthropic-beta", "three-2025-01-01"),
        ("x-first", "1"),
        ("authorization", f"Bearer {CLIENT_KEY}"),
        ("x-claude-code-session-id", "s-1"),
    ]
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        request = await sent(proxy, up, headers=[*headers, ("x-ccf-api-key", proxy.token)])
    assert relayed(request) == [(n.encode(), v.encode("latin-1")) for n, v in headers]


async def test_what_belongs_to_the_connection_stays_behind() -> None:
    headers = [
        ("connection", "keep-alive, X-Hop-One"),
        ("connection", "x-hop-two"),
        ("x-hop-one", "1"),
        ("x-hop-two", "2"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("trailer", "x-checksum"),
        ("upgrade", "h2c"),
        ("proxy-authorization", "Basic c2VjcmV0"),
        ("proxy-connection", "keep-alive"),
        ("expect", "100-continue"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("x-ccf-anything", "for the proxy"),
        ("cookie", "sessionid=of-the-admin"),
        ("cookie", "another=one"),
        ("x-kept", "yes"),
    ]
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        async with proxy.open(extra=headers) as connection:
            status, _ = await connection.head()
            while status == 100:
                status, _ = await connection.head()
            assert status == 200
        request = up.requests[0]
        assert relayed(request) == [
            (b"authorization", f"Bearer {CLIENT_KEY}".encode()),
            (b"content-type", b"application/json"),
            (b"x-kept", b"yes"),
        ]
        assert request.values("accept-encoding") == [b"identity"]
        assert request.values("host") == [f"127.0.0.1:{up.port}".encode()]
        assert request.values("content-length") == [b"%d" % len(request.body)]


async def test_a_chunked_request_is_relayed_with_its_length() -> None:
    body = body_of()
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        chunks = b"".join(b"%x\r\n%b\r\n" % (1, body[i : i + 1]) for i in range(len(body)))
        head = "\r\n".join(
            ["POST /v1/messages HTTP/1.1", "host: x", "transfer-encoding: chunked"]
            + [f"{name}: {value}" for name, value in proxy.headers()]
        )
        async with proxy.open(method="GET", target="/healthz") as connection:
            await connection.reply()
            await connection.send_raw(head.encode() + b"\r\n\r\n" + chunks + b"0\r\n\r\n")
            assert (await connection.reply()).status == 200
        request = up.requests[0]
        assert request.body == body
        assert request.values("content-length") == [b"%d" % len(body)]
        assert request.values("transfer-encoding") == []


OURS, THEIRS = "<the token>", CLIENT_KEY


WAYS_TO_AUTHENTICATE: list[tuple[list[tuple[str, str]], list[str]]] = [
    ([("x-ccf-api-key", OURS), ("authorization", f"Bearer {THEIRS}")], ["authorization"]),
    ([("x-ccf-api-key", OURS), ("x-api-key", THEIRS)], ["x-api-key"]),
    ([("authorization", f"Bearer {OURS}"), ("x-api-key", THEIRS)], ["x-api-key"]),
    ([("authorization", f"bearer {OURS}"), ("x-api-key", THEIRS)], ["x-api-key"]),
    ([("authorization", OURS), ("x-api-key", THEIRS)], ["x-api-key"]),
    ([("x-api-key", OURS), ("authorization", f"Bearer {THEIRS}")], ["authorization"]),
    (
        [
            ("x-ccf-api-key", OURS),
            ("x-api-key", OURS),
            ("authorization", f"Bearer {THEIRS}"),
        ],
        ["authorization"],
    ),
    (
        [
            ("x-ccf-api-key", OURS),
            ("x-api-key", THEIRS),
            ("authorization", f"Bearer {THEIRS}"),
        ],
        ["x-api-key", "authorization"],
    ),
]


async def test_the_token_opens_the_proxy_and_the_clients_own_credentials_go_on() -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        for headers, arrives in WAYS_TO_AUTHENTICATE:
            real = [(name, value.replace(OURS, proxy.token)) for name, value in headers]
            request = await sent(proxy, up, headers=real)
            assert [name.decode() for name, _ in relayed(request)] == arrives
            for name in arrives:
                value = next(v for n, v in headers if n == name)
                assert request.values(name) == [value.encode()]
            assert proxy.token.encode() not in request.everything


async def test_a_client_with_nothing_but_both_headers_full_of_our_token_has_no_credentials() -> (
    None
):
    async with FakeProvider(ok()) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            both = [("x-api-key", proxy.token), ("authorization", f"Bearer {proxy.token}")]
            reply = await proxy.call(headers=both)
            assert reply["x-ccf-attempts"] == "openrouter=200"
            assert up.requests == []
            assert proxy.token.encode() not in other.requests[0].everything


@pytest.mark.parametrize(("value", "skipped"), [("1", True), ("true", True), ("0", False)])
async def test_the_primary_can_be_skipped_for_one_call(value: str, skipped: bool) -> None:
    async with FakeProvider(ok()) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            reply = await proxy.call(extra=[("x-ccf-debug-skip-anthropic", value)])
            assert reply["x-ccf-provider"] == ("openrouter" if skipped else "anthropic-primary")
            assert len(up.requests) == (not skipped)
            for request in up.requests + other.requests:
                assert request.values("x-ccf-debug-skip-anthropic") == []


@pytest.mark.parametrize("auth_header", ["x-api-key", "Authorization", "X-Goog-Api-Key"])
async def test_a_provider_with_its_own_key_sees_no_credentials_of_the_client(
    auth_header: str,
) -> None:
    secrets = {
        "authorization": f"Bearer {CLIENT_KEY}",
        "x-api-key": "sk-ant-api03-the-clients-other-key",
        "api-key": "an-azure-key-of-the-client",
        "cookie": "session=of-the-client",
        "proxy-authorization": "Basic of-the-client",
    }
    async with FakeProvider(refuse(429)) as up, FakeProvider(ok()) as other:
        provider = fallback(other, auth_header=auth_header, extra_headers={"X-Title": "Claude"})
        async with running_proxy(primary(up), provider) as proxy:
            request = await sent(
                proxy,
                other,
                headers=[
                    ("x-ccf-api-key", proxy.token),
                    *secrets.items(),
                    ("x-title", "the client's"),
                    ("anthropic-version", "2023-06-01"),
                    ("x-unknown", "kept"),
                ],
            )
            key = f"Bearer {PROVIDER_KEY}" if auth_header == "Authorization" else PROVIDER_KEY
            assert relayed(request) == [
                (b"anthropic-version", b"2023-06-01"),
                (b"x-unknown", b"kept"),
                (auth_header.lower().encode(), key.encode()),
                (b"x-title", b"Claude"),
            ]
            for secret in [*secrets.values(), CLIENT_KEY, proxy.token]:
                assert secret.encode() not in request.everything
            # And the other way round.
            assert PROVIDER_KEY.encode() not in up.requests[0].everything


async def test_the_primarys_extra_headers_replace_those_of_the_client() -> None:
    async with FakeProvider(ok()) as up:
        async with running_proxy(primary(up, extra_headers={"X-Team": "ours"})) as proxy:
            request = await sent(proxy, up, extra=[("x-team", "theirs")])
            assert request.values("x-team") == [b"ours"]
            assert request.values("authorization") == [f"Bearer {CLIENT_KEY}".encode()]


@pytest.mark.parametrize(
    ("base", "target"),
    [
        ("", "/v1/messages?beta=true"),
        ("/", "/v1/messages?beta=true"),
        ("/v1", "/v1/messages?beta=true"),
        ("/v1/messages", "/v1/messages?beta=true"),
        ("/pre/fix/v1/", "/pre/fix/v1/messages?beta=true"),
        ("/pre/fix?api-version=1", "/pre/fix/v1/messages?api-version=1&beta=true"),
    ],
)
async def test_the_base_url_may_be_what_people_paste(base: str, target: str) -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up.url + base)) as proxy:
        await sent(proxy, up, target="/v1/messages?beta=true")
        assert names(up.requests) == [f"POST {target}"]


async def test_a_base_url_with_v1_at_the_client_works() -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        await sent(proxy, up, target="/v1/v1/messages?beta=true")
        assert names(up.requests) == ["POST /v1/messages?beta=true"]
