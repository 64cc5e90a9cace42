"""What a wire format has to offer. Formats are pure: no Django, no I/O, no clock.

To add a format, write one module (or package) with an object that satisfies
`Format`, and name it in `proxy.formats.FORMATS` and `providers.routing.WireFormat`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from providers.routing import Target
from proxy.call import Call
from proxy.usage import Usage
from proxy.wire import ErrorReply, HeaderPairs, MessageReply, UpstreamRequest


class StreamReader(Protocol):
    """Turns the bytes of one upstream stream into the client's bytes, as they arrive."""

    usage: Usage
    """Token usage as far as it is known."""

    content_begun: bool
    """First content has been read: the reply may be committed."""

    complete: bool
    """The stream came to its proper end; what follows is ignored."""

    error: ErrorReply | None
    """The upstream said that it failed, inside the stream. `feed` returns the client's error
    event all the same: before the commit the relay drops it, after it the client hears it."""

    pings: bool
    """The relay may add pings of its own when the upstream is silent (translated streams only)."""

    @property
    def quiet_end(self) -> float | None:
        """Seconds of silence after which the relay calls `end()` itself, None to wait.

        Changes as the stream goes on.
        """
        ...

    def feed(self, data: bytes) -> bytes:
        """Bytes for the client: whole events only, b"" when there is nothing yet."""
        ...

    def end(self) -> bytes:
        """The upstream closed its side: the rest for the client. `complete` says if it was the end.

        Raises nothing: a stream that was cut leaves `complete` False.
        """
        ...


class Translation(Protocol):
    """The way back of one attempt: reads the reply to one translated request.

    It must not keep the request's body alive.
    """

    usage: Usage

    dropped: Mapping[str, int]
    """What the other format could not carry: field -> how often. For the log."""

    def response_headers(self, headers: HeaderPairs) -> HeaderPairs:
        """The headers that the client gets with a success (the relay adds its own)."""
        ...

    def open_stream(self) -> StreamReader:
        """A reader for a streamed success."""
        ...

    def read_message(self, body: bytes) -> MessageReply:
        """A whole success. Raises `InvalidReply`; `UpstreamRefused` for an error inside a 200."""
        ...

    def replay(self, message: MessageReply) -> bytes:
        """`message` as a whole stream, where a provider did not stream although asked to.

        Raises `InvalidReply` where the format does not offer that.
        """
        ...

    def read_error(self, status: int, headers: HeaderPairs, body: bytes) -> ErrorReply:
        """Any other status, in the form in which the client would hear it."""
        ...


class Format(Protocol):
    """One wire format."""

    def translate(self, call: Call, target: Target) -> tuple[UpstreamRequest, Translation]:
        """`call` in the words of `target`, and the way back.

        Raises `RequestRefused` or `AnswerLocally`.
        """
        ...
