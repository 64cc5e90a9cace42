"""Making a client token on the command line."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from providers.models import AccessToken, token_digest

pytestmark = pytest.mark.django_db


def create_token(**options: Any) -> list[str]:
    out = io.StringIO()
    call_command("create_token", stdout=out, **options)
    return out.getvalue().splitlines()


def test_the_token_is_printed_and_only_its_hash_kept() -> None:
    lines = create_token(note="laptop")
    row = AccessToken.objects.get()
    assert row.digest == token_digest(lines[0])
    assert (row.note, row.hint, row.enabled) == ("laptop", lines[0][-4:], True)


def test_the_lines_to_paste_follow() -> None:
    lines = create_token(note="laptop", url="http://proxy:8787")
    assert lines[-2:] == [
        "export ANTHROPIC_BASE_URL=http://proxy:8787",
        f'export ANTHROPIC_CUSTOM_HEADERS="x-ccf-api-key: {lines[0]}"',
    ]


@pytest.mark.parametrize(
    ("header", "hosts", "url"),
    [
        (("HTTP_X_FORWARDED_PROTO", "https"), ["proxy.example.com"], "https://proxy.example.com"),
        (
            ("HTTP_X_FORWARDED_PROTO", "https"),
            ["localhost", ".example.com", "a.example.com"],
            "https://a.example.com",
        ),
        (("HTTP_X_FORWARDED_PROTO", "https"), ["*"], "http://127.0.0.1:8787"),
        (None, ["proxy.example.com"], "http://127.0.0.1:8787"),
    ],
    ids=["behind a proxy", "the first whole name", "no name", "not behind a proxy"],
)
def test_the_lines_have_the_address_that_clients_use(
    header: tuple[str, str] | None, hosts: list[str], url: str, settings: Any
) -> None:
    settings.SECURE_PROXY_SSL_HEADER, settings.ALLOWED_HOSTS = header, hosts
    assert f"export ANTHROPIC_BASE_URL={url}" in create_token(note="laptop")


def test_a_script_gets_the_token_alone() -> None:
    (token,) = create_token(note="ci", quiet=True)
    assert AccessToken.objects.get().digest == token_digest(token)


@pytest.mark.parametrize("note", ["", "  ", "n" * 101])
def test_a_note_that_cannot_be_stored_is_refused(note: str) -> None:
    with pytest.raises(CommandError, match=r"^--note: .+"):
        create_token(note=note)
    assert not AccessToken.objects.exists()
