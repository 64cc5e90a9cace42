"""Who is calling: the client's token, and the credentials that are its own."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from providers.models import TOKEN_PREFIX
from providers.routing import Snapshot, TokenSpec
from proxy.errors import NotAuthenticated
from proxy.wire import HeaderPairs, header

TOKEN_HEADER = b"x-ccf-api-key"
SKIP_HEADER = b"x-ccf-debug-skip-anthropic"
_CREDENTIAL_HEADERS = (b"authorization", b"x-api-key")
_BEARER = b"bearer "
_OURS = TOKEN_PREFIX.encode()


class Caller(NamedTuple):
    """`headers` are free of whatever was meant for the proxy.

    `credential` is a short hash of the client's own credentials, "" without any.
    """

    headers: HeaderPairs
    token: TokenSpec | None
    credential: str
    skip_client_providers: bool

    def __repr__(self) -> str:
        return f"Caller({self.token}, {self.credential})"  # nothing secret


def identify(headers: HeaderPairs, snapshot: Snapshot, *, allow_anonymous: bool) -> Caller:
    """Authenticate a call. Raises `NotAuthenticated`.

    The token may come as x-ccf-api-key, as Bearer or as x-api-key. Every header
    that carries one of our tokens is removed, so that none ever leaves the proxy;
    not even one that is disabled here.
    """
    token: TokenSpec | None = None
    kept: list[tuple[bytes, bytes]] = []
    own: list[bytes] = []
    skip = False
    for pair in headers:
        name, value = pair
        if name in _CREDENTIAL_HEADERS:
            bare = _bare(value)
            found = _find(bare, snapshot)
            token = token or found
            if found or bare.strip().startswith(_OURS):
                continue
            if value.strip():
                own.append(value)
        elif name.startswith(b"x-ccf-"):
            if name == TOKEN_HEADER:
                token = token or _find(value, snapshot)
            elif name == SKIP_HEADER:
                skip = skip or value.strip().lower() in (b"1", b"true", b"yes")
            continue
        kept.append(pair)
    if token is None and not allow_anonymous:
        raise NotAuthenticated(_why(headers))
    credential = hashlib.sha256(b"\n".join(own)).hexdigest()[:16] if own else ""
    return Caller(kept, token, credential, skip)


def _bare(value: bytes) -> bytes:
    return value[len(_BEARER) :] if value[: len(_BEARER)].lower() == _BEARER else value


def _find(value: bytes, snapshot: Snapshot) -> TokenSpec | None:
    return snapshot.tokens.get(hashlib.sha256(value.strip()).digest())


def _why(headers: HeaderPairs) -> str:
    if header(headers, TOKEN_HEADER) is None:
        return (
            "no proxy token: send one as x-ccf-api-key (for Claude Code: "
            'ANTHROPIC_CUSTOM_HEADERS="x-ccf-api-key: ..."). '
            "manage.py create_token makes one"
        )
    return "unknown proxy token in x-ccf-api-key. manage.py create_token makes a new one"
