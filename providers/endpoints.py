"""From what people paste as a base URL to the URL of an endpoint."""

from __future__ import annotations

from urllib.parse import urlsplit

_ANTHROPIC_TAILS = ("/v1/messages", "/v1")


def anthropic_url(base: str, path: str, query: bytes = b"") -> str:
    """The URL of `path` (such as /v1/messages) at an Anthropic-format provider.

    `base` may be a root, a versioned root or the full endpoint; its own query
    comes before the client's, which is kept byte for byte.
    """
    parts = urlsplit(base)
    root = parts.path.rstrip("/")
    for tail in _ANTHROPIC_TAILS:
        if root.endswith(tail):
            root = root.removesuffix(tail)
            break
    queries = [text for text in (parts.query, query.decode("latin-1")) if text]
    return f"{parts.scheme}://{parts.netloc}{root}{path}" + (
        f"?{'&'.join(queries)}" if queries else ""
    )
