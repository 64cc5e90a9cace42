"""Which headers of a provider's reply are kept in the history: by an allow-list, here alone."""

from __future__ import annotations

from functools import lru_cache

from proxy.redaction import redact_keys
from proxy.wire import HeaderPairs

NAMES = frozenset(
    {
        b"request-id",
        b"x-request-id",
        b"x-generation-id",
        b"apim-request-id",
        b"cf-ray",
        b"retry-after",
        b"retry-after-ms",
        b"x-should-retry",
        b"openai-processing-ms",
        b"content-type",
    }
)
PREFIXES = (b"anthropic-", b"x-ratelimit-", b"ratelimit")
NEVER = (b"auth", b"key", b"cookie", b"secret", b"credential", b"session")
"""Parts of names that might carry somebody's credentials, whatever they begin with."""

MAX_HEADERS = 40
MAX_VALUE = 200


def kept_headers(headers: HeaderPairs) -> dict[str, str]:
    """The headers worth keeping: rate limits, request ids. The first value of each."""
    kept: dict[str, str] = {}
    for name, value in headers:
        if len(kept) == MAX_HEADERS:
            break
        if is_kept(name):
            text = redact_keys(value.decode("latin-1"))[:MAX_VALUE]
            kept.setdefault(name.decode("latin-1"), text)
    return kept


@lru_cache(maxsize=1024)
def is_kept(name: bytes) -> bool:
    """Whether a header of this name, in lower case, may be kept."""
    if any(part in name for part in NEVER):
        return False
    return name in NAMES or name.startswith(PREFIXES)
