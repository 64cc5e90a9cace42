"""One client request, parsed once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from proxy.reading import Contents, read_contents
from proxy.wire import HeaderPairs

MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"


class Call(NamedTuple):
    """One request of a client; immutable, so that every attempt starts from the original.

    `headers` are the client's own, in lower case and in order, without the ones
    that are meant for the proxy (`x-ccf-*`, the one that carried its token).
    `body` is as received; `model` is what the client asked for.
    `credential` is a short hash of the client's own credentials, "" without any.
    `contents` is what was seen in the client's own body, None where it was not looked at.
    """

    request_id: str
    method: str
    path: str
    query: bytes
    headers: HeaderPairs
    body: bytes
    model: str = ""
    stream: bool = False
    credential: str = ""
    session_id: str = ""
    agent_id: str = ""
    token_note: str = ""
    skip_client_providers: bool = False
    contents: Contents | None = None

    def __repr__(self) -> str:
        return f"Call({self.request_id}, {self.method} {self.path})"  # nothing secret

    @property
    def credential_values(self) -> list[str]:
        """The client's own credentials as they came, for finding them in texts that quote them."""
        names = (b"authorization", b"x-api-key", b"api-key", b"cookie")
        return [value.decode("latin-1") for name, value in self.headers if name in names]

    @property
    def seen(self) -> Contents:
        """The contents; now, if the body was not looked at before."""
        return self.contents or read_contents(self.body)

    def with_body(self, body: bytes) -> Call:
        """The same call with another body."""
        return self if body is self.body else self._replace(body=body)

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
