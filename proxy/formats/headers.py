"""Headers on the way to a provider and back."""

from __future__ import annotations

from collections.abc import Iterable

from providers.routing import ProviderSpec
from proxy.wire import HeaderPairs, without

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
CREDENTIALS = frozenset({b"authorization", b"x-api-key", b"api-key"})
"""Request headers that carry somebody's credentials."""

_NOT_TO_UPSTREAM = HOP_BY_HOP | {
    b"host",
    b"content-length",
    b"accept-encoding",
    b"expect",
    b"cookie",  # of a browser, for the host of this proxy: the admin's session among them
}
_NOT_TO_CLIENT = HOP_BY_HOP | {
    b"content-length",
    b"content-encoding",
    b"set-cookie",
    b"alt-svc",
    b"strict-transport-security",
    b"ccr-request-id",
}


def to_upstream(headers: HeaderPairs) -> list[tuple[bytes, bytes]]:
    """The client's headers less what belongs to its connection to us.

    Upstreams are asked not to compress: the proxy looks at events as they pass.
    """
    kept = _forwarded(headers, _NOT_TO_UPSTREAM)
    kept.append((b"accept-encoding", b"identity"))
    return kept


def to_client(headers: HeaderPairs) -> list[tuple[bytes, bytes]]:
    """A provider's headers less what belongs to its connection to us, or to its own site."""
    kept = _forwarded(headers, _NOT_TO_CLIENT)
    return [pair for pair in kept if not pair[0].startswith(b"x-ccf-")]


def own_auth_headers(provider: ProviderSpec) -> list[tuple[bytes, bytes]]:
    """The provider's own key and extra headers; an extra header replaces the key's by name.

    `authorization` carries the key as a Bearer token, any other header (such as
    `x-api-key` or Azure's `api-key`) the key itself. Without a key there is no
    such header: local servers often need none.
    """
    headers: dict[bytes, bytes] = {}
    key = provider.api_key.strip()
    if key:
        name = provider.auth_header.strip().lower()
        bearer = name == "authorization" and not key.lower().startswith(("bearer ", "basic "))
        headers |= encoded([(name, f"Bearer {key}" if bearer else key)])
    headers |= encoded(provider.extra_headers)
    return list(headers.items())


def encoded(headers: Iterable[tuple[str, str]]) -> dict[bytes, bytes]:
    """Headers as they go on the wire: names in lower case, values trimmed; the last one wins."""
    return {
        name.strip().lower().encode("utf-8", "replace"): value.strip().encode("utf-8", "replace")
        for name, value in headers
    }


def _forwarded(headers: HeaderPairs, unwanted: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """The headers less `unwanted` ones, and less those that `connection` names."""
    named = [value for name, value in headers if name == b"connection"]
    if named:
        unwanted |= {name.strip().lower() for value in named for name in value.split(b",")}
    return without(headers, unwanted)
