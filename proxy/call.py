"""One client request, parsed once."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import orjson

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

    def document(self) -> dict[str, Any]:
        """The body, decoded afresh: a caller may change what it gets.

        The view has checked that it is a JSON object. orjson refuses the lone
        surrogates that JavaScript clients send for a cut emoji; the standard
        library reads them.
        """
        try:
            document = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            document = json.loads(self.body)
        if not isinstance(document, dict):
            raise TypeError("the body of a call is a JSON object")
        return document
