"""One client request, parsed once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import orjson

from proxy.errors import InvalidRequest
from proxy.wire import HeaderPairs

MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a client; immutable, so that every attempt starts from the original.

    `headers` are the client's own, in lower case and in order, without the ones
    that are meant for the proxy (`x-ccf-*`, the one that carried its token).
    `body` is as received; `model` is what the client asked for.
    `credential` is a short hash of the client's own credentials, "" without any.
    """

    request_id: str
    method: str
    path: str
    query: bytes
    headers: HeaderPairs = field(repr=False)
    body: bytes = field(repr=False)
    model: str = ""
    stream: bool = False
    credential: str = ""
    session_id: str = ""
    agent_id: str = ""
    token_note: str = ""
    skip_client_providers: bool = False

    @property
    def credential_values(self) -> list[str]:
        """The client's own credentials as they came, for finding them in texts that quote them."""
        names = (b"authorization", b"x-api-key", b"api-key", b"cookie")
        return [value.decode("latin-1") for name, value in self.headers if name in names]

    def with_body(self, body: bytes) -> Call:
        """The same call with another body."""
        return self if body is self.body else replace(self, body=body)

    def with_document(self, document: Mapping[str, Any]) -> Call:
        """The same call with this body. Lone surrogates, which some clients send, are escaped."""
        try:
            return self.with_body(orjson.dumps(document))
        except TypeError:
            return self.with_body(json.dumps(document, separators=(",", ":")).encode())

    def document(self) -> dict[str, Any]:
        """The body, decoded afresh: a caller may change what it gets.

        The view has checked that it is a JSON object. orjson refuses the lone
        surrogates that JavaScript clients send for a cut emoji; the standard
        library reads them. Bytes that are no UTF-8 are replaced.
        """
        try:
            document = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            document = json.loads(self.body.decode(errors="replace"))
        if not isinstance(document, dict):
            raise TypeError("the body of a call is a JSON object")
        return document


_SERVER_TOOL = re.compile(
    rb'"type"\s*:\s*"'
    rb'(?:(?:web_search|web_fetch|code_execution|advisor|tool_search_tool)_|mcp_toolset")'
)


def has_server_tools(body: bytes) -> bool:
    """Whether a request offers tools that Anthropic runs itself: a look at the bytes."""
    return _SERVER_TOOL.search(body) is not None


class _Routing(msgspec.Struct):
    """What routing needs of a body; everything else is validated and skipped."""

    model: Any = None
    stream: Any = None


_decode_routing = msgspec.json.Decoder(_Routing).decode


def read_routing(body: bytes) -> tuple[str, bool]:
    """Model and stream flag of a body. Raises `InvalidRequest`."""
    try:
        routing = _decode_routing(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        routing = _read_leniently(body, error)
    if not isinstance(routing.model, str) or not routing.model:
        raise InvalidRequest("model: a string is required")
    if not _is_text(routing.model):
        raise InvalidRequest("model: no such name can exist")
    return routing.model, routing.stream is True


def _is_text(name: str) -> bool:
    """Whether a name can be written down anywhere: no NUL, no half of a surrogate pair."""
    try:
        return b"\0" not in name.encode()
    except UnicodeEncodeError:
        return False


def _read_leniently(body: bytes, error: Exception) -> _Routing:
    """The standard library's opinion: it takes the lone surrogates that JavaScript sends.

    Whether such a text is acceptable is the provider's to say, not ours. UTF-16 and a byte
    order mark, which it would take as well, are not JSON of the web (RFC 8259, section 8.1).
    """
    try:
        document = json.loads(body.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidRequest("the body has to be a JSON object")
    return _Routing(document.get("model"), document.get("stream"))
