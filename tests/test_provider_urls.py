"""From pasted base URLs to the URLs and headers of requests."""

from __future__ import annotations

import pytest

from providers.endpoints import anthropic_url, chat_completions_url
from providers.routing import ProviderSpec
from proxy.formats.headers import own_auth_headers

CHAT = {
    "https://h": "https://h/v1/chat/completions",
    "https://h/": "https://h/v1/chat/completions",
    " https://h/v1 ": "https://h/v1/chat/completions",
    "https://h/v1/": "https://h/v1/chat/completions",
    "https://h/api/v1": "https://h/api/v1/chat/completions",
    "https://h/v1beta/openai/": "https://h/v1beta/openai/chat/completions",
    "https://h/v1/chat/completions": "https://h/v1/chat/completions",
    "https://h/v1/chat/completions/": "https://h/v1/chat/completions",
    "http://localhost:11434": "http://localhost:11434/v1/chat/completions",
    "https://h?api-version=1": "https://h/v1/chat/completions?api-version=1",
    "https://r.openai.azure.com/openai/deployments/d?api-version=2024-10-21": (
        "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21"
    ),
    "https://h/openai/deployments/d/chat/completions?api-version=1&x=%20": (
        "https://h/openai/deployments/d/chat/completions?api-version=1&x=%20"
    ),
    "https://h/v1#part": "https://h/v1/chat/completions",
}


@pytest.mark.parametrize(("base", "url"), CHAT.items())
def test_the_endpoint_of_chat_completions(base: str, url: str) -> None:
    assert chat_completions_url(base) == url


MESSAGES = {
    "https://h": "https://h/v1/messages",
    "https://h/": "https://h/v1/messages",
    "https://h/v1": "https://h/v1/messages",
    "https://h/v1/": "https://h/v1/messages",
    "https://h/v1/messages": "https://h/v1/messages",
    "https://h/v1/messages/count_tokens": "https://h/v1/messages",
    "https://h/pre/fix/": "https://h/pre/fix/v1/messages",
    "https://h/api/anthropic/v1": "https://h/api/anthropic/v1/messages",
    "https://h/v1?key=a": "https://h/v1/messages?key=a",
}


@pytest.mark.parametrize(("base", "url"), MESSAGES.items())
def test_the_endpoint_of_anthropics_api(base: str, url: str) -> None:
    assert anthropic_url(base, "/v1/messages") == url


def test_the_clients_path_and_query_are_kept_byte_for_byte() -> None:
    assert anthropic_url("https://h/v1", "/v1/messages/count_tokens", b"beta=true") == (
        "https://h/v1/messages/count_tokens?beta=true"
    )
    assert anthropic_url("https://h?a=1", "/v1/models", b"b=%2F&c=+&d") == (
        "https://h/v1/models?a=1&b=%2F&c=+&d"
    )
    assert (
        anthropic_url("https://h", "/v1/models", b"q=\xc3\xbc")
        .encode("latin-1")
        .endswith(b"?q=\xc3\xbc")
    )


def provider(**fields: object) -> ProviderSpec:
    return ProviderSpec(id=1, name="p", base_url="https://h", **fields)  # type: ignore[arg-type]


AUTH = {
    "x-api-key": ({"api_key": "k"}, [(b"x-api-key", b"k")]),
    "a Bearer token": (
        {"api_key": " k ", "auth_header": "Authorization"},
        [(b"authorization", b"Bearer k")],
    ),
    "a Bearer token pasted whole": (
        {"api_key": "Bearer k", "auth_header": "authorization"},
        [(b"authorization", b"Bearer k")],
    ),
    "Azure": ({"api_key": "k", "auth_header": "api-key"}, [(b"api-key", b"k")]),
    "no key": ({}, []),
    "extra headers": (
        {"api_key": "k", "extra_headers": (("X-Title", " t "),)},
        [(b"x-api-key", b"k"), (b"x-title", b"t")],
    ),
    "an extra header overrides": (
        {"api_key": "k", "extra_headers": (("X-API-Key", "other"),)},
        [(b"x-api-key", b"other")],
    ),
}


@pytest.mark.parametrize(("fields", "headers"), AUTH.values(), ids=AUTH)
def test_the_headers_of_a_provider_with_a_key(fields: dict[str, object], headers: object) -> None:
    assert own_auth_headers(provider(**fields)) == headers
