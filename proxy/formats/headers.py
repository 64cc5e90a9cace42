"""Headers on the way to a provider and back."""

from __future__ import annotations

from providers.routing import ProviderSpec
from proxy.wire import HeaderPairs, header, without

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
CREDENTIALS = frozenset({b"authorization", b"x-api-key", b"api-key", b"cookie"})
"""Request headers that carry somebody's credentials."""

_NOT_TO_UPSTREAM = HOP_BY_HOP | {b"host", b"content-length", b"accept-encoding", b"expect"}
_NOT_TO_CLIENT = HOP_BY_HOP | {
    b"content-length",
    b"content-encoding",
    b"set-cookie",
    b"alt-svc",
    b"strict-transport-security",
}


def to_upstream(headers: HeaderPairs) -> list[tuple[bytes, bytes]]:
    """The client's headers less what belongs to its connection to us.

    Upstreams are asked not to compress: the proxy looks at events as they pass.
    """
    kept = without(headers, _NOT_TO_UPSTREAM | _named_by_connection(headers))
    kept.append((b"accept-encoding", b"identity"))
    return kept


def to_client(headers: HeaderPairs) -> list[tuple[bytes, bytes]]:
    """A provider's headers less what belongs to its connection to us, or to its own site."""
    kept = without(headers, _NOT_TO_CLIENT | _named_by_connection(headers))
    return [pair for pair in kept if not pair[0].startswith(b"x-ccf-")]


def own_auth_headers(provider: ProviderSpec) -> list[tuple[bytes, bytes]]:
    """The provider's own key and extra headers; an extra header replaces the key's by name."""
    headers = {}
    if provider.api_key:
        scheme = "Bearer " if provider.auth_header == "authorization" else ""
        headers[provider.auth_header.encode()] = (scheme + provider.api_key).encode()
    headers.update((name.encode(), value.encode()) for name, value in provider.extra_headers)
    return list(headers.items())


def _named_by_connection(headers: HeaderPairs) -> frozenset[bytes]:
    value = header(headers, b"connection")
    if value is None:
        return frozenset()
    return frozenset(name.strip().lower() for name in value.split(b","))
