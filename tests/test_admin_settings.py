"""The settings: one form, with a switch for every repair; and the configuration as a file."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from providers.admin import transfer as transfer_views
from providers.fields import decrypt
from providers.loading import load_snapshot
from providers.models import AccessToken, Provider, ProxySettings
from proxy.rectifiers import REPAIRS

pytestmark = pytest.mark.django_db

SETTINGS = "/admin/providers/proxysettings/1/change/"
TRANSFER = "/admin/transfer/"
KEY = "sk-or-v1-never-to-be-shown-0123"


def filled(client: Client, **changes: Any) -> dict[str, Any]:
    form = client.get(SETTINGS).context["adminform"].form
    data = {name: form[name].value() for name in form.fields}
    data |= changes
    return {k: v for k, v in data.items() if v is not None and v is not False}


# --- repairs ----------------------------------------------------------------


def test_every_repair_has_a_switch_that_is_on(admin_client: Client) -> None:
    html = admin_client.get(SETTINGS).content.decode()
    for repair in REPAIRS:
        assert re.search(rf'value="{repair.name}"[^>]*checked', html), repair.name


def test_a_repair_that_is_switched_off_is_off_in_the_workers(admin_client: Client) -> None:
    on = [repair.name for repair in REPAIRS[2:]]
    response = admin_client.post(SETTINGS, filled(admin_client, enabled_repairs=on))
    assert response.status_code == 302 and response["location"] == SETTINGS
    off = {repair.name for repair in REPAIRS[:2]}
    assert load_snapshot().settings.disabled_repairs == off
    form = admin_client.get(SETTINGS).context["adminform"].form
    assert form["enabled_repairs"].value() == on
    assert "Repairs" in LogEntry.objects.get().get_change_message()


def test_a_repair_that_does_not_exist_is_refused(admin_client: Client) -> None:
    response = admin_client.post(SETTINGS, filled(admin_client, enabled_repairs=["nonsense"]))
    assert response.status_code == 200
    assert not ProxySettings.objects.exists()


def test_the_retention_is_one_of_the_settings(admin_client: Client) -> None:
    admin_client.post(SETTINGS, filled(admin_client, retention_days=7))
    assert ProxySettings.load().retention_days == 7


# --- import and export ------------------------------------------------------


@pytest.fixture
def openrouter() -> Provider:
    return Provider.objects.create(
        name="openrouter", position=1, base_url="https://openrouter.ai/api", api_key=KEY
    )


def document(**changes: Any) -> str:
    entry = {"name": "kimi", "baseUrl": "https://kimi.example", "apiKey": KEY, **changes}
    return json.dumps({"providers": [entry]})


def preview(client: Client, text: str, **data: Any) -> Any:
    return client.post(TRANSFER, {"do": "preview", "text": text, **data})


def sealed(response: Any) -> str:
    found = re.search(r'name="sealed" value="([^"]+)"', response.content.decode())
    assert found, response.content.decode()
    return found[1]


def test_an_import_is_shown_before_anything_changes(admin_client: Client) -> None:
    response = preview(admin_client, document())
    html = response.content.decode()
    assert "kimi" in html and KEY not in html
    assert not Provider.objects.filter(name="kimi").exists()
    response = admin_client.post(TRANSFER, {"do": "apply", "sealed": sealed(response)})
    assert response.status_code == 302
    assert Provider.objects.get(name="kimi").api_key == KEY
    message = LogEntry.objects.get().get_change_message()
    assert "kimi" in message and KEY not in message


def test_the_document_waits_for_its_confirmation_encrypted(admin_client: Client) -> None:
    token = sealed(preview(admin_client, document()))
    assert KEY in json.loads(decrypt(token))[0]
    assert not any(KEY in str(session.get_decoded()) for session in Session.objects.all())


def test_a_file_can_be_uploaded(admin_client: Client) -> None:
    file = SimpleUploadedFile("c.json", document().encode())
    response = admin_client.post(TRANSFER, {"do": "preview", "file": file})
    assert "kimi" in response.content.decode() and sealed(response)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Choose a file"),
        ("{", "this is not JSON"),
        ('{"provider": []}', "unknown key"),
        ('{"providers": [{"name": "x"}]}', "baseUrl"),
    ],
)
def test_what_cannot_be_imported_is_explained(
    admin_client: Client, text: str, problem: str
) -> None:
    response = preview(admin_client, text)
    assert problem in response.content.decode()
    assert Provider.objects.count() == 1


def test_what_is_no_text_or_too_large_is_refused(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = SimpleUploadedFile("c.json", b"\xff\xfe\x00")
    response = admin_client.post(TRANSFER, {"do": "preview", "file": file})
    assert "not a text file" in response.content.decode()
    monkeypatch.setattr(transfer_views, "MAX_BYTES", 10)
    file = SimpleUploadedFile("c.json", document().encode())
    response = admin_client.post(TRANSFER, {"do": "preview", "file": file})
    assert "no larger than" in response.content.decode()


def test_a_preview_is_good_for_its_user_and_for_a_while(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = sealed(preview(admin_client, document()))
    other = Client()
    other.force_login(User.objects.create_superuser("other"))
    html = other.post(TRANSFER, {"do": "apply", "sealed": token}).content.decode()
    assert "too old" in html
    later = time.time() + transfer_views.PREVIEW_SECONDS + 1
    monkeypatch.setattr("providers.admin.transfer.time.time", lambda: later)
    html = admin_client.post(TRANSFER, {"do": "apply", "sealed": token}).content.decode()
    assert "too old" in html
    html = admin_client.post(TRANSFER, {"do": "apply", "sealed": "forged"}).content.decode()
    assert "too old" in html
    assert Provider.objects.count() == 1


def test_a_configuration_that_changed_since_the_preview_is_previewed_again(
    admin_client: Client,
) -> None:
    token = sealed(preview(admin_client, document()))
    Provider.objects.create(name="kimi", base_url="https://other", api_key="k")
    response = admin_client.post(TRANSFER, {"do": "apply", "sealed": token})
    html = response.content.decode()
    assert "changed in the meantime" in html
    assert Provider.objects.get(name="kimi").base_url == "https://other"
    admin_client.post(TRANSFER, {"do": "apply", "sealed": sealed(response)})
    assert Provider.objects.get(name="kimi").base_url == "https://kimi.example"


def test_an_import_that_changes_nothing_offers_nothing_to_confirm(admin_client: Client) -> None:
    html = preview(admin_client, '{"providers": []}').content.decode()
    assert "is like that already" in html and 'name="sealed"' not in html


def test_the_export_has_keys_only_when_they_are_asked_for(
    admin_client: Client, openrouter: Provider
) -> None:
    response = admin_client.post(TRANSFER, {"do": "export"})
    assert response["content-type"] == "application/json"
    assert "openrouter" in response.content.decode() and KEY not in response.content.decode()
    response = admin_client.post(TRANSFER, {"do": "export", "secrets": "on"})
    assert KEY in response.content.decode()
    assert "no-store" in response["cache-control"]
    messages = [entry.get_change_message() for entry in LogEntry.objects.order_by("pk")]
    assert messages == ["Exported without keys.", "Exported with its keys."]
    assert preview(admin_client, response.content.decode()).context["changes"] == []


def test_only_who_has_the_permission_may_import_or_export(
    client: Client, openrouter: Provider
) -> None:
    user = User.objects.create_user("operator", is_staff=True)
    for permission in Permission.objects.filter(content_type__app_label="providers"):
        if permission.codename != "transfer_configuration":
            user.user_permissions.add(permission)
    client.force_login(user)
    assert client.get(TRANSFER).status_code == 403
    assert client.post(TRANSFER, {"do": "export", "secrets": "on"}).status_code == 403
    assert TRANSFER not in client.get(SETTINGS).content.decode()
    user.user_permissions.add(Permission.objects.get(codename="transfer_configuration"))
    client.force_login(User.objects.get(pk=user.pk))
    assert client.get(TRANSFER).status_code == 200
    assert TRANSFER in client.get(SETTINGS).content.decode()


def test_tokens_travel_as_hashes(admin_client: Client) -> None:
    _row, token = AccessToken.issue("laptop")
    text = admin_client.post(TRANSFER, {"do": "export", "secrets": "on"}).content.decode()
    assert "laptop" in text and token not in text
