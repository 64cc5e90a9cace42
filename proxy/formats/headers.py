"""The headers by which a provider with credentials of its own is called."""

from __future__ import annotations

from collections.abc import Iterable

from providers.routing import ProviderSpec


def own_auth_headers(provider: ProviderSpec) -> list[tuple[bytes, bytes]]:
    """The provider's key in its header, then its extra headers, which override by name.

    `authorization` carries the key as a Bearer token, any other header (such as
    `x-api-key` or Azure's `api-key`) the key itself. Without a key there is no
    such header: local servers often need none.
    """
    pairs: list[tuple[str, str]] = []
    key = provider.api_key.strip()
    if key:
        name = provider.auth_header.strip().lower()
        bearer = name == "authorization" and not key.lower().startswith(("bearer ", "basic "))
        pairs.append((name, f"Bearer {key}" if bearer else key))
    return override(encode(pairs), encode(provider.extra_headers))


def encode(pairs: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Header pairs as they go on the wire: names in lower case, values trimmed, in UTF-8."""
    return [
        (name.strip().lower().encode("utf-8", "replace"), value.strip().encode("utf-8", "replace"))
        for name, value in pairs
    ]


def override(
    pairs: Iterable[tuple[bytes, bytes]], by: Iterable[tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    """`pairs` without the names that occur in `by`, followed by `by`."""
    winners = list(by)
    names = {name for name, _ in winners}
    return [pair for pair in pairs if pair[0] not in names] + winners
