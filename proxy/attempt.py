"""One attempt at one target: up to the point where its answer may be committed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from providers.routing import Target
from proxy.call import Call
from proxy.deadlines import Deadline
from proxy.errors import InvalidReply, NetworkFailure, UpstreamFailure, UpstreamRefused
from proxy.formats import FORMATS
from proxy.formats.base import StreamReader, Translation
from proxy.upstream import Exchange, Head, UpstreamClient
from proxy.wire import HeaderPairs, UpstreamRequest, header

MAX_REPLY_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 1024 * 1024
MAX_HELD_BYTES = 4 * 1024 * 1024
_EVENT_STREAM = b"text/event-stream"


@dataclass(slots=True)
class OpenStream:
    """A stream whose first content has arrived. `held` is what came up to it."""

    exchange: Exchange
    reader: StreamReader
    held: bytes = field(repr=False)
    ended: bool


@dataclass(slots=True)
class Reply:
    """A success, not yet sent: a whole body or an open stream."""

    status: int
    headers: HeaderPairs = field(repr=False)
    translation: Translation
    body: bytes = field(default=b"", repr=False)
    stream: OpenStream | None = None


def _unnoticed(request: UpstreamRequest) -> None:
    """Nobody wants to know what is being sent."""


async def ask(
    upstream: UpstreamClient,
    call: Call,
    target: Target,
    *,
    budget: Deadline | None = None,
    last_resort: bool = False,
    on_request: Callable[[UpstreamRequest], None] = _unnoticed,
) -> Reply:
    """Ask `target`; return what may be committed. `on_request` hears what is being sent.

    `budget` bounds the wait for a stream's content. As a `last_resort` a valid
    but empty answer is good enough. Raises `UpstreamFailure`, `RequestRefused`,
    `AnswerLocally`.
    """
    limits = target.provider.limits
    request, translation = FORMATS[target.provider.format].translate(call, target)
    if call.stream:
        deadline = Deadline(limits.first_byte_stream, "first byte").or_earlier(budget)
    else:
        deadline = Deadline(limits.first_byte, "first byte")
    on_request(request)
    exchange = upstream.send(request, limits.connect)
    del request
    try:
        head = await exchange.head(deadline)
        if not 200 <= head.status < 300:
            body = await _read_error_body(exchange, deadline, limits.idle)
            raise UpstreamRefused(translation.read_error(head.status, head.headers, body))
        if call.stream:
            return await _commit_stream(exchange, head, translation, deadline, last_resort)
        return await _read_whole(exchange, head, translation, deadline, limits.idle, last_resort)
    except BaseException:
        exchange.abandon()
        raise


async def read_on(
    exchange: Exchange, reader: StreamReader, deadline: Deadline
) -> tuple[bytes, bool]:
    """The client's next bytes, and whether the stream is over. Raises `UpstreamFailure`."""
    quiet = reader.quiet_end
    if quiet is None:
        chunk = await exchange.chunk(deadline)
    else:
        # All that matters has been said; the provider merely has not hung up.
        settle = Deadline(quiet, "settling").or_earlier(deadline)
        try:
            chunk = await exchange.chunk(settle)
        except UpstreamFailure:
            chunk = b""
    return digested(reader, chunk)


def digested(reader: StreamReader, chunk: bytes) -> tuple[bytes, bool]:
    """What `chunk` means for the client, and whether the stream is over: b"" is its end."""
    return (reader.feed(chunk), False) if chunk else (reader.end(), True)


async def _commit_stream(
    exchange: Exchange,
    head: Head,
    translation: Translation,
    deadline: Deadline,
    last_resort: bool,
) -> Reply:
    """Hold everything back until the first content."""
    if _is_json(head):
        return await _replay(exchange, head, translation, deadline, last_resort)
    reader = translation.open_stream()
    held, ended = b"", False
    while not ended and not reader.content_begun and not reader.complete:
        data, ended = await read_on(exchange, reader, deadline)
        held += data
        if reader.error is not None and not reader.content_begun:
            raise UpstreamRefused(reader.error)
        if len(held) > MAX_HELD_BYTES:
            raise InvalidReply("no content in the first 4 MB of the stream")
    if ended and not reader.complete:
        raise NetworkFailure("the stream ended before its first content")
    if not reader.content_begun and not last_resort:
        raise InvalidReply("the answer is empty")
    return Reply(
        status=head.status,
        headers=translation.response_headers(head.headers),
        translation=translation,
        stream=OpenStream(exchange, reader, held, ended),
    )


async def _read_whole(
    exchange: Exchange,
    head: Head,
    translation: Translation,
    deadline: Deadline,
    idle: float,
    last_resort: bool,
) -> Reply:
    body = await _read_body(exchange, deadline, idle, MAX_REPLY_BYTES)
    message = translation.read_message(body)
    if message.empty and not last_resort:
        raise InvalidReply("the answer is empty")
    headers = translation.response_headers(head.headers)
    return Reply(head.status, headers, translation, message.body)


async def _replay(
    exchange: Exchange,
    head: Head,
    translation: Translation,
    deadline: Deadline,
    last_resort: bool,
) -> Reply:
    """A whole message where a stream was asked for: an error, or a stream in one piece."""
    body = await _read_body(exchange, deadline, deadline.seconds, MAX_REPLY_BYTES)
    message = translation.read_message(body)
    if message.empty and not last_resort:
        raise InvalidReply("the answer is empty")
    events = translation.replay(message)
    return Reply(head.status, translation.response_headers(head.headers), translation, events)


async def _read_body(exchange: Exchange, deadline: Deadline, idle: float, most: int) -> bytes:
    """The whole body. `deadline` is for its first bytes, `idle` for every silence after them."""
    chunks, size = [], 0
    while chunk := await exchange.chunk(deadline):
        chunks.append(chunk)
        size += len(chunk)
        if size > most:
            raise InvalidReply(f"the reply is larger than {most} bytes")
        deadline = Deadline(idle, "idle")
    return b"".join(chunks)


async def _read_error_body(exchange: Exchange, deadline: Deadline, idle: float) -> bytes:
    """The body of an error, or as much of it as came in time: others wait for their turn."""
    chunks, size = [], 0
    try:
        while size < MAX_ERROR_BYTES:
            chunk = await exchange.chunk(Deadline(idle, "idle").or_earlier(deadline))
            if not chunk:
                break
            chunks.append(chunk)
            size += len(chunk)
    except UpstreamFailure:
        # The status has said it already; a torn body must not hide it.
        pass
    return b"".join(chunks)[:MAX_ERROR_BYTES]


def _is_json(head: Head) -> bool:
    content_type = header(head.headers, b"content-type") or _EVENT_STREAM
    return content_type.split(b";")[0].strip().lower() == b"application/json"
