"""Of a provider's headers the history keeps the harmless and useful ones, and no others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.history.kept_headers import MAX_HEADERS, MAX_VALUE, NEVER, is_kept, kept_headers


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        (b"request-id", True),
        (b"x-request-id", True),
        (b"cf-ray", True),
        (b"retry-after", True),
        (b"x-should-retry", True),
        (b"anthropic-ratelimit-unified-status", True),
        (b"anthropic-ratelimit-input-tokens-remaining", True),
        (b"anthropic-organization-id", True),
        (b"x-ratelimit-remaining-tokens", True),
        (b"ratelimit-reset", True),
        (b"ratelimit", True),
        (b"set-cookie", False),
        (b"authorization", False),
        (b"x-api-key", False),
        (b"anthropic-api-key", False),
        (b"anthropic-auth-token", False),
        (b"x-ratelimit-api-key", False),
        (b"www-authenticate", False),
        (b"server", False),
        (b"x-powered-by", False),
        (b"", False),
    ],
)
def test_a_header_is_kept_by_its_name(name: bytes, kept: bool) -> None:
    assert is_kept(name) is kept


@given(st.binary(max_size=40))
def test_no_name_that_smells_of_a_credential_is_kept(name: bytes) -> None:
    assert not (is_kept(name) and any(part in name for part in NEVER))


def test_a_value_is_bounded_and_what_looks_like_a_key_is_taken_out() -> None:
    headers = [
        (b"request-id", b"x" * 1000),
        (b"cf-ray", b"Bearer sk-ant-secret-0123456789"),
        (b"retry-after", b"5"),
        (b"retry-after", b"6"),
    ]
    found = kept_headers(headers)
    assert len(found["request-id"]) == MAX_VALUE
    assert "secret" not in found["cf-ray"]
    assert found["retry-after"] == "5"


def test_so_many_headers_are_kept_and_no_more() -> None:
    headers = [(b"anthropic-%d" % number, b"v") for number in range(1000)]
    assert len(kept_headers(headers)) == MAX_HEADERS
