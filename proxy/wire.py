"""What goes to an upstream and what comes back: plain data between the layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

HeaderPairs = Sequence[tuple[bytes, bytes]]
"""Raw header pairs, names in lower case, duplicates and order kept."""


def header(pairs: HeaderPairs, name: bytes) -> bytes | None:
    """The first value of a header, None when it is absent. `name` in lower case."""
    for key, value in pairs:  # a loop: a generator takes three times as long
        if key == name:
            return value
    return None


def without(
    pairs: Iterable[tuple[bytes, bytes]], names: frozenset[bytes]
) -> list[tuple[bytes, bytes]]:
    """The pairs whose name is not among `names`."""
    return [pair for pair in pairs if pair[0] not in names]


class UpstreamRequest(NamedTuple):
    """One HTTP request to a provider, complete but for Host and Content-Length."""

    method: str
    url: str
    headers: HeaderPairs
    body: bytes = b""

    def __repr__(self) -> str:
        return f"UpstreamRequest({self.method})"  # nothing secret


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An upstream's refusal, in the form in which the client would hear it.

    `status`, `headers` and `body` are ready to be sent: unmodified from an
    Anthropic-format provider, translated from any other. `type` and `message`
    are what it says, for the log and for classification (`message` is the text
    of the body where nothing else was found; both may be empty).
    `upstream_status` is the status as received, 0 where nothing was.
    `context_overflow` and `rate_limited` say that the wording is one, whatever the status.
    """

    status: int
    headers: HeaderPairs = field(repr=False)
    body: bytes = field(repr=False)
    type: str = ""
    message: str = ""
    upstream_status: int = 0
    context_overflow: bool = False
    rate_limited: bool = False

    @property
    def meant_status(self) -> int:
        """The status as received; for an error inside a 200, the one that belongs to it."""
        return self.upstream_status if self.upstream_status >= 300 else self.status


@dataclass(frozen=True, slots=True)
class MessageReply:
    """A whole, valid, not streamed answer in Anthropic's shape. `empty`: it says nothing at all."""

    body: bytes = field(repr=False)
    empty: bool = False
