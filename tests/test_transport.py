"""The connections to providers: kept, bounded, closed at once; TLS; addresses that fail."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proxy.deadlines import Deadline
from proxy.errors import NetworkFailure, TimeLimitExceeded
from proxy.transport import Connection, ConnectionBroken, Origin, Pool, Reply, dialing, pool
from proxy.transport.connection import MAX_HEAD
from proxy.transport.reply import HIGH_WATER
from proxy.upstream import UpstreamClient
from proxy.wire import UpstreamRequest
from tests.proxy import until
from tests.upstreams import Connection as FakeConnection
from tests.upstreams import FakeProvider, Received, message, ok, reply

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Server:
    """Answers each request with the next of `replies`; the last one answers for ever."""

    def __init__(self, *replies: bytes, tls: ssl.SSLContext | None = None) -> None:
        self.replies = list(replies)
        self.connections: list[asyncio.StreamWriter] = []
        self.left = 0
        self.requests = 0
        self.sent = 0
        self._tls = tls

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Origin]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        port = server.sockets[0].getsockname()[1]
        try:
            yield Origin("https" if self._tls else "http", "127.0.0.1", port)
        finally:
            server.close()
            for writer in self.connections:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                data = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                for start in range(0, len(data), 65536):
                    writer.write(data[start : start + 65536])
                    await writer.drain()
                    self.sent += len(data[start : start + 65536])
                if b"content-length" not in data and b"chunked" not in data:
                    writer.close()
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            self.left += 1


@asynccontextmanager
async def pool_for(server: Server, tls: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    pool = Pool(tls or ssl.create_default_context())
    async with server.running() as origin:
        try:
            yield Client(pool, origin)
        finally:
            pool.close()


class Client:
    """Sends requests over a pool, on kept connections where there are any."""

    def __init__(self, pool: Pool, origin: Origin) -> None:
        self.pool = pool
        self.origin = origin

    async def connection(self) -> Connection:
        return self.pool.kept(self.origin) or await self.pool.connect(self.origin)

    async def send(self, *, bodiless: bool = False) -> Reply:
        return (await self.connection()).begin(REQUEST, b"", bodiless=bodiless)

    async def get(self) -> tuple[int, bytes]:
        received = await self.send()
        status, _ = await received.head(soon())
        return status, await whole(received)


async def read(received: Reply, until: float) -> bytes:
    """The next bytes of the body."""
    while (data := received.take()) is None:
        await received.news(until)
    return data


async def whole(received: Reply) -> bytes:
    data = b""
    while part := await read(received, soon()):
        data += part
    return data


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def turns(number: int = 50) -> None:
    for _ in range(number):
        await asyncio.sleep(0.001)


async def test_a_connection_is_kept_and_used_again() -> None:
    server = Server(OK)
    async with pool_for(server) as client:
        assert [await client.get() for _ in range(3)] == [(200, b"ok")] * 3
        assert len(server.connections) == 1
        assert (client.pool.idle, client.pool.busy) == (1, 0)


async def test_the_connection_that_was_used_last_is_used_first() -> None:
    server = Server(OK)
    async with pool_for(server) as client:
        first, second = await client.send(), await client.send()
        await whole(first)
        await whole(second)
        newest = client.pool.kept(client.origin)
        assert newest is not None
        assert newest.begin(REQUEST, b"", bodiless=False) is not None
        assert client.pool.idle == 1


async def test_nothing_is_kept_that_the_peer_wants_closed() -> None:
    server = Server(OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    async with pool_for(server) as client:
        assert await client.get() == (200, b"ok")
        assert (client.pool.idle, client.pool.busy) == (0, 0)


async def test_a_kept_connection_that_the_peer_closes_is_forgotten() -> None:
    server = Server(OK)
    async with pool_for(server) as client:
        await client.get()
        server.connections[0].close()
        await turns()
        assert client.pool.kept(client.origin) is None
        assert client.pool.idle == 0


async def test_a_peer_that_speaks_without_being_asked_is_not_listened_to() -> None:
    server = Server(OK)
    async with pool_for(server) as client:
        await client.get()
        server.connections[0].write(OK)
        await turns()
        assert client.pool.idle == 0


async def test_more_than_was_asked_for_is_not_taken_for_the_next_reply() -> None:
    server = Server(OK + OK.replace(b"ok", b"no"), OK)
    async with pool_for(server) as client:
        assert await client.get() == (200, b"ok")
        assert client.pool.idle == 0
        assert await client.get() == (200, b"ok")


async def test_unused_connections_are_closed_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "KEEP_SECONDS", 0.02)
    server = Server(OK)
    async with pool_for(server) as client:
        await client.get()
        await turns(60)
        assert client.pool.idle == 0


async def test_no_more_than_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MAX_IDLE", 2)
    async with pool_for(Server(OK)) as client:
        for received in [await client.send() for _ in range(4)]:
            await whole(received)
        assert (client.pool.idle, client.pool.busy) == (2, 0)


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 204 No Content\r\nx: content-length\r\n\r\n", b""),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nt: 1\r\n\r\n",
            b"ok",
        ),
        (b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + OK, b"ok"),
    ],
    ids=["without a length", "HTTP 1.0", "without a body", "chunks and trailers", "interim"],
)
async def test_every_kind_of_body_is_read(data: bytes, body: bytes) -> None:
    async with pool_for(Server(data)) as client:
        assert (await client.get())[1] == body


async def test_a_reply_to_head_has_no_body() -> None:
    async with pool_for(Server(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")) as client:
        received = await client.send(bodiless=True)
        assert (await received.head(soon()))[0] == 200
        assert await read(received, soon()) == b""


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\ncontent-length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
    ],
    ids=["not HTTP", "no length", "upgrade"],
)
async def test_garbage_breaks_the_connection(data: bytes) -> None:
    async with pool_for(Server(data)) as client:
        received = await client.send()
        with pytest.raises(ConnectionBroken):
            await received.head(soon(1))
        assert (client.pool.idle, client.pool.busy) == (0, 0)


async def test_a_head_without_an_end_is_not_listened_to_for_ever() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\nx: " + b"x" * (MAX_HEAD + 65536))
    async with pool_for(server) as client:
        received = await client.send()
        with pytest.raises(ConnectionBroken, match="head of the reply"):
            await received.head(soon())
        assert client.pool.busy == 0


async def test_a_body_that_is_cut_off_breaks_after_what_had_come() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
    async with pool_for(server) as client:
        received = await client.send()
        await received.head(soon())
        assert await read(received, soon()) == b"half"
        server.connections[0].close()
        with pytest.raises(ConnectionBroken) as caught:
            await read(received, soon())
        assert not caught.value.silent


async def test_waiting_has_an_end_and_what_comes_in_time_is_not_lost() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab")
    async with pool_for(server) as client:
        received = await client.send()
        await received.head(soon())
        assert await read(received, soon()) == b"ab"
        for _ in range(2):  # a later limit after an earlier one, and the other way round
            with pytest.raises(TimeoutError):
                await read(received, soon(0.01))
        later = asyncio.create_task(read(received, soon(30)))
        await turns(20)
        assert not later.done()
        server.connections[0].write(b"cd")
        assert await later == b"cd"


async def test_an_abandoned_reply_closes_its_connection_at_once() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
    async with pool_for(server) as client:
        received = await client.send()
        await received.head(soon())
        received.abandon()
        assert (client.pool.idle, client.pool.busy) == (0, 0)
        await turns()
        assert server.left == 1


async def test_a_reply_that_nobody_reads_makes_its_provider_wait() -> None:
    size = 24 * 1024 * 1024
    server = Server(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + bytes(size))
    async with pool_for(server) as client:
        received = await client.send()
        await received.head(soon())
        await turns()
        sent = server.sent
        assert sent < size / 2, "the provider could send it all"
        await turns()
        assert server.sent == sent, "the provider still sends"
        assert received._size < HIGH_WATER + 512 * 1024
        assert len(await whole(received)) == size
        assert await client.get(), "the connection is used again"


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody has signed, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def serving(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_tls_connections_are_kept_too(certificate: Path) -> None:
    server = Server(OK, tls=serving(certificate))
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with pool_for(server, trusting) as client:
        assert [await client.get() for _ in range(2)] == [(200, b"ok")] * 2
        assert len(server.connections) == 1


async def test_a_certificate_that_nobody_has_signed_is_refused(certificate: Path) -> None:
    async with pool_for(Server(OK, tls=serving(certificate))) as client:
        with pytest.raises(ssl.SSLCertVerificationError):
            await client.connection()
        assert (client.pool.idle, client.pool.busy) == (0, 0)


# Addresses


def resolve_to(*addresses: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str, *args: object, **kwargs: object) -> list[object]:
        kind = socket.SOCK_STREAM
        return [(socket.AF_INET, kind, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)


async def test_an_address_that_refuses_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(OK)
    async with pool_for(server) as client:
        resolve_to("127.0.0.2", "127.0.0.1", port=client.origin.port, monkeypatch=monkeypatch)
        assert await client.get() == (200, b"ok")


async def test_an_address_that_does_not_answer_gets_no_more_than_a_head_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dialing, "HEAD_START", 0.01)
    opened = dialing._open_socket

    async def open_or_hang(family: int, address: tuple[str, int]) -> socket.socket:
        if address[0] == "192.0.2.1":
            await asyncio.Event().wait()
        return await opened(family, address)

    monkeypatch.setattr(dialing, "_open_socket", open_or_hang)
    async with pool_for(Server(OK)) as client:
        resolve_to("192.0.2.1", "127.0.0.1", port=client.origin.port, monkeypatch=monkeypatch)
        before = asyncio.all_tasks()
        assert await client.get() == (200, b"ok")
        await turns(5)
        assert not {t for t in asyncio.all_tasks() - before if "open_or_hang" in repr(t)}


async def test_a_host_whose_addresses_all_refuse_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pool_for(Server(OK)) as client:
        resolve_to("127.0.0.2", "127.0.0.3", port=client.origin.port, monkeypatch=monkeypatch)
        with pytest.raises(OSError, match="111"):
            await client.connection()


# Above it: the upstream client


def request_to(url: str, **headers: str) -> UpstreamRequest:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    return UpstreamRequest("POST", f"{url}/v1/messages", pairs, b"{}")


async def ask(client: UpstreamClient, request: UpstreamRequest, seconds: float = 5.0) -> int:
    exchange = client.send(request, connect_limit=seconds)
    try:
        head = await exchange.head(Deadline(seconds, "first byte"))
        while await exchange.chunk(Deadline(seconds, "idle")):
            pass
        return head.status
    finally:
        exchange.abandon()


@asynccontextmanager
async def upstream_client() -> AsyncIterator[UpstreamClient]:
    client = UpstreamClient()
    try:
        yield client
    finally:
        await client.close()


async def test_a_proxy_that_the_environment_names_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with FakeProvider(message()) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        async with upstream_client() as client:
            assert await ask(client, request_to("http://provider.invalid")) == 200
        assert proxy.requests[0].target == b"/v1/messages"
        assert proxy.requests[0].values("host") == [b"provider.invalid"]


async def test_leaving_while_a_proxy_opens_a_tunnel_leaves_no_connection_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = asyncio.Event()

    async def deaf(connection: FakeConnection, request: Received) -> None:
        """Opens the tunnel; nobody at its other end answers to TLS."""
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        begun.set()
        await connection.until_peer_leaves()

    async with FakeProvider(deaf) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        async with upstream_client() as client:
            exchange = client.send(request_to("https://provider.invalid"), connect_limit=0.3)
            await begun.wait()
            await turns()
            exchange.abandon()
            await until(lambda: not proxy.open, "the connection to the proxy is closed")
            await until(lambda: not client.open_exchanges, "the exchange is over")


async def test_hosts_that_the_environment_excepts_are_asked_directly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with FakeProvider(ok()) as up:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with upstream_client() as client:
            assert await ask(client, request_to(up.url)) == 200
            assert client.pool.idle == 1


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:port", "http://[::1"])
async def test_a_url_that_leads_nowhere_is_a_failure_like_any_other(url: str) -> None:
    async with upstream_client() as client:
        with pytest.raises(NetworkFailure, match="URL"):
            await ask(client, request_to(url))


async def test_a_header_cannot_become_two() -> None:
    async with FakeProvider(ok()) as up, upstream_client() as client:
        with pytest.raises(NetworkFailure, match="more than one line"):
            await ask(client, request_to(up.url, name="value\r\nother: value"))
        assert up.requests == []
        assert client.open_exchanges == 0


async def test_connecting_has_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(self: Pool, origin: Origin) -> Connection:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(Pool, "connect", never)
    async with upstream_client() as client:
        exchange = client.send(request_to("http://127.0.0.1:9"), connect_limit=0.01)
        with pytest.raises(TimeLimitExceeded) as caught:
            await exchange.head(Deadline(5, "first byte"))
        assert caught.value.limit == "connect"


async def test_the_body_is_let_go_of_when_the_reply_begins() -> None:
    async with FakeProvider(reply(200, b"{}")) as up, upstream_client() as client:
        exchange = client.send(request_to(up.url), connect_limit=5)
        await exchange.head(Deadline(5, "first byte"))
        assert exchange._request is None  # type: ignore[attr-defined]
