"""Exporting the configuration: nothing secret unless asked, and nothing lost on the way back."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers.models import AccessToken, ModelMapping, Provider, ProxySettings
from providers.transfer.configuration import apply_import, export_configuration
from providers.transfer.document import InvalidDocument, parse

pytestmark = pytest.mark.django_db

FULL: dict[str, Any] = {
    "primary": {"name": "anthropic-primary", "baseUrl": "https://api.anthropic.com", "retry": 1},
    "providers": [
        {
            "name": "openrouter",
            "baseUrl": "https://openrouter.ai/api/v1",
            "apiKey": "sk-or-secret",
            "authHeader": "Authorization",
            "format": "openai",
            "headers": {"X-Title": "secret title"},
            "modelMapping": {"claude-*": "anthropic/claude"},
            "profile": {"images": True},
            "idleLimit": 7.5,
            "disabled": True,
        },
        {"name": "second-client", "baseUrl": "https://b.example.com", "credentials": "client"},
    ],
    "tokens": [{"token": "sk-ccf-secret-0123456789", "note": "laptop"}, "short-secret"],
    "settings": {"cooldownDuration": 0, "patience": 9},
}


def export(*arguments: str, **options: Any) -> str:
    out = io.StringIO()
    call_command("export_config", *arguments, stdout=out, **options)
    return out.getvalue()


def empty() -> None:
    for model in (Provider, AccessToken, ProxySettings):
        model.objects.all().delete()


def test_an_export_has_the_shape_of_an_import() -> None:
    apply_import(FULL)
    document = json.loads(export(with_secrets=True))
    assert list(document) == ["primary", "providers", "tokens", "settings"]
    assert document["primary"]["baseUrl"] == "https://api.anthropic.com"
    assert document["primary"]["disabled"] is False
    openrouter, second = document["providers"]
    assert FULL["providers"][0].items() <= openrouter.items()
    assert second["credentials"] == "client"
    assert document["settings"]["patience"] == 9


def test_an_export_holds_no_secret_unless_asked_and_never_a_token() -> None:
    apply_import(FULL)
    redacted, clear = export(), export(with_secrets=True)
    assert "secret" not in redacted
    assert "sk-or-secret" in clear and "secret title" in clear
    assert "sk-ccf-secret" not in clear and "short-secret" not in clear
    (openrouter, second) = json.loads(redacted)["providers"]
    assert openrouter["apiKey"] == "[redacted]"
    assert openrouter["headers"] == {"X-Title": "[redacted]"}
    assert second["apiKey"] == ""  # there is none to redact


def test_a_redacted_export_keeps_the_stored_secrets() -> None:
    apply_import(FULL)
    document = json.loads(export())
    document["providers"][0]["retry"] = 5
    plan = apply_import(document)
    row = Provider.objects.get(name="openrouter")
    assert (row.api_key, row.extra_headers) == ("sk-or-secret", {"X-Title": "secret title"})
    assert plan.changes == ["change provider openrouter: retry 0 -> 5"]


def test_a_redacted_export_cannot_make_new_providers() -> None:
    apply_import(FULL)
    document = json.loads(export())
    Provider.objects.filter(name="openrouter").delete()
    with pytest.raises(InvalidDocument) as raised:
        apply_import(document)
    assert [line.split(": it is redacted")[0] for line in raised.value.errors] == [
        "providers[0] (openrouter): apiKey",
        "providers[0] (openrouter): headers: X-Title",
    ]


class TestASecretThatCannotBeDecrypted:
    @pytest.fixture(autouse=True)
    def _other_key(self, settings: Any) -> None:
        apply_import(FULL)
        settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]

    def test_is_reported_when_secrets_are_asked_for(self) -> None:
        errors = io.StringIO()
        document = json.loads(export(with_secrets=True, stderr=errors))
        assert errors.getvalue().startswith("openrouter: its secrets cannot be decrypted")
        assert document["providers"][0]["apiKey"] == "[redacted]"
        assert "headers" not in document["providers"][0]

    def test_is_not_overwritten_by_its_own_export(self) -> None:
        with pytest.raises(InvalidDocument, match="apiKey: The stored key cannot be decrypted"):
            apply_import(json.loads(export()))


class TestTheFile:
    def test_is_private_when_it_holds_secrets(self, tmp_path: Path) -> None:
        file = tmp_path / "config.json"
        file.write_text("older and much longer than nothing " * 1000)
        file.chmod(0o644)
        apply_import(FULL)
        assert export(str(file), with_secrets=True) == ""
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.read_text() == export(with_secrets=True)

    def test_has_an_ordinary_mode_when_it_does_not(self, tmp_path: Path) -> None:
        other, file = tmp_path / "other", tmp_path / "config.json"
        other.touch()
        export(str(file))
        assert file.stat().st_mode == other.stat().st_mode

    def test_that_cannot_be_written_is_one_line(self, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match=r"^\S+: Is a directory$"):
            export(str(tmp_path))


# --- there and back -----------------------------------------------------------

printable = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1)
words = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20)
keys = printable.filter(lambda key: not key.lower().startswith("bearer") and "[" not in key)
header_names = st.from_regex(r"X-[A-Za-z0-9-]{1,10}", fullmatch=True)
limits = st.floats(0.1, 1e6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-100, 100) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
rows = st.fixed_dictionaries(
    {
        "name": words,
        "enabled": st.booleans(),
        "base_url": st.sampled_from(["https://a.example.com", "http://b/v1?api-version=1"]),
        "format": st.sampled_from(Provider.WireFormat.values),
        "credentials": st.sampled_from(Provider.Credentials.values),
        "api_key": keys,
        "auth_header": st.sampled_from(["x-api-key", "Authorization", "api-key"]),
        "extra_headers": st.dictionaries(header_names, keys, max_size=2),
        "profile": st.dictionaries(
            st.sampled_from(["images", "stream_options", "strict_tools"]), st.booleans()
        ),
        "retries": st.integers(0, 10),
        "retry_first": st.booleans(),
        "on_client_401": st.sampled_from(Provider.OnClient401.values),
        "connect_limit": limits,
        "first_byte_stream_limit": limits,
        "first_byte_limit": limits,
        "idle_limit": limits,
    }
)
configurations = st.fixed_dictionaries(
    {
        "providers": st.lists(
            st.tuples(rows, st.dictionaries(words, words, max_size=3)),
            max_size=3,
            unique_by=lambda pair: pair[0]["name"],
        ),
        "tokens": st.lists(st.tuples(words, st.booleans()), max_size=3),
        "settings": st.fixed_dictionaries(
            {
                "max_cooldown": st.integers(0, 10**6),
                "probe_interval": st.integers(1, 10**6),
                "log_error_messages": st.booleans(),
            }
        ),
    }
)


def store(configuration: dict[str, Any]) -> None:
    for position, (fields, mapping) in enumerate(configuration["providers"]):
        row = Provider.objects.create(position=position, **fields)
        for source, target in mapping.items():
            ModelMapping.objects.create(provider=row, source=source, target=target)
    for note, enabled in configuration["tokens"]:
        row_and_token = AccessToken.issue(note)
        AccessToken.objects.filter(pk=row_and_token[0].pk).update(enabled=enabled)
    ProxySettings(**configuration["settings"]).save()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(configurations)
def test_an_export_restores_everything_in_an_empty_database(configuration: dict[str, Any]) -> None:
    with transaction.atomic():
        empty()
        store(configuration)
        exported = export(with_secrets=True)
        snapshot = export_configuration(with_secrets=True)

        assert apply_import(parse(exported), replace=True).changes == []
        empty()
        apply_import(parse(exported))
        assert export(with_secrets=True) == exported
        assert export_configuration(with_secrets=True) == snapshot
        empty()


def test_an_export_restores_everything_in_a_new_installation() -> None:
    apply_import(FULL)
    exported = export(with_secrets=True)
    empty()
    Provider.objects.create(
        name="anthropic-primary", base_url="https://api.anthropic.com", credentials="client"
    )
    apply_import(parse(exported))
    assert export(with_secrets=True) == exported


def test_an_export_without_a_primary_disables_the_one_of_a_new_installation() -> None:
    Provider.objects.all().delete()
    apply_import([FULL["providers"][0]])
    exported = export(with_secrets=True)
    Provider.objects.all().delete()
    Provider.objects.create(
        name="anthropic-primary", base_url="https://api.anthropic.com", credentials="client"
    )
    apply_import(parse(exported))
    assert [p.name for p in Provider.objects.filter(enabled=True)] == []
    assert Provider.objects.get(name="anthropic-primary").enabled is False


def test_an_export_keeps_a_primary_where_it_was_moved_to() -> None:
    primary = Provider.objects.get()
    apply_import({"providers": [FULL["providers"][0], {"name": primary.name}]})
    exported = export(with_secrets=True)
    apply_import({"primary": {"name": primary.name}})
    apply_import(parse(exported))
    assert export(with_secrets=True) == exported
