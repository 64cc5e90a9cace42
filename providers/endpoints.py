"""From what people paste as a base URL to the URL of one request.

A base may be a root (`https://api.example.com`), a versioned root (`.../v1`) or
a whole endpoint (`.../v1/messages`, `.../v1/chat/completions`), each with a
query string of its own (Azure's `?api-version=`).
"""

from __future__ import annotations

from functools import lru_cache

_CHAT_COMPLETIONS = "/chat/completions"
_ANTHROPIC_ENDPOINTS = ("/v1/messages/count_tokens", "/v1/messages", "/v1")


def chat_completions_url(base: str) -> str:
    """The Chat Completions endpoint of `base`. A root without any path gets `/v1`."""
    root, query = _split(base)
    if root.endswith(_CHAT_COMPLETIONS):
        return root + query
    version = "" if _has_path(root) else "/v1"
    return root + version + _CHAT_COMPLETIONS + query


def anthropic_url(base: str, path: str, query: bytes = b"") -> str:
    """`path` (such as `/v1/messages`) below `base`, with the base's query before the client's.

    The client's query is copied as it came, byte for byte; bytes beyond ASCII
    are carried as Latin-1 characters.
    """
    root, own_query = _anthropic_root(base)
    client_query = query.decode("latin-1")
    if client_query:
        own_query = f"{own_query}&{client_query}" if own_query else f"?{client_query}"
    return root + path + own_query


@lru_cache(maxsize=256)
def _anthropic_root(base: str) -> tuple[str, str]:
    """`_split` without the endpoint that a base may name."""
    root, query = _split(base)
    for endpoint in _ANTHROPIC_ENDPOINTS:
        if root.endswith(endpoint):
            return root.removesuffix(endpoint).rstrip("/"), query
    return root, query


def _split(base: str) -> tuple[str, str]:
    """The base without trailing slashes, and its query with the question mark ("" without one)."""
    root, _, query = base.strip().partition("#")[0].partition("?")
    return root.rstrip("/"), f"?{query}" if query else ""


def _has_path(root: str) -> bool:
    return "/" in root.partition("://")[2]
