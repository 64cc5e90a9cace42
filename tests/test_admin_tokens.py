"""Client tokens in the admin: shown once, kept nowhere."""

from __future__ import annotations

import re
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client

from providers.loading import current_versions, load_snapshot
from providers.models import AccessToken, token_digest

pytestmark = pytest.mark.django_db

LIST = "/admin/providers/accesstoken/"


def issue(client: Client, note: str = "laptop") -> tuple[str, str]:
    """The token that a new row was given, and the page that shows it."""
    response = client.post(f"{LIST}add/", {"note": note}, headers={"host": "localhost:8080"})
    assert response.status_code == 200
    html = unescape(response.content.decode())
    found = re.search(r"sk-ccf-[\w-]{43}", html)
    assert found, html
    return found[0], html


def test_the_add_form_asks_for_a_note_only(admin_client: Client) -> None:
    response = admin_client.get(f"{LIST}add/")
    assert list(response.context["adminform"].form.fields) == ["note"]
    html = response.content.decode()
    assert "_addanother" not in html and "_continue" not in html


def test_a_token_without_a_note_is_not_issued(admin_client: Client) -> None:
    response = admin_client.post(f"{LIST}add/", {"note": " "})
    assert list(response.context["adminform"].form.errors) == ["note"]
    assert not AccessToken.objects.exists()


def test_a_new_token_is_shown_with_the_lines_to_paste(admin_client: Client) -> None:
    token, html = issue(admin_client)
    assert "export ANTHROPIC_BASE_URL=http://localhost:8080\n" in html
    line = f'export ANTHROPIC_CUSTOM_HEADERS="x-ccf-api-key: {token}"'
    assert line in html
    row = AccessToken.objects.get()
    assert (row.note, row.digest, row.hint) == ("laptop", token_digest(token), token[-4:])
    assert [spec.note for spec in load_snapshot().tokens.values()] == ["laptop"]


def test_the_page_with_the_token_is_not_kept_by_a_cache(admin_client: Client) -> None:
    response = admin_client.post(f"{LIST}add/", {"note": "laptop"})
    assert "no-store" in response["cache-control"]


def test_a_token_is_never_shown_again_nor_stored_anywhere(admin_client: Client) -> None:
    token, _html = issue(admin_client)
    row = AccessToken.objects.get()
    urls = (LIST, f"{LIST}{row.pk}/change/", f"{LIST}{row.pk}/history/", f"{LIST}{row.pk}/delete/")
    for url in (*urls, "/admin/"):
        response = admin_client.get(url)
        assert response.status_code == 200
        assert token not in response.content.decode(), url
        assert row.digest not in response.content.decode(), url
    assert not any(token in morsel.value for morsel in admin_client.cookies.values())
    assert not any(token in str(session.get_decoded()) for session in Session.objects.all())
    assert token not in LogEntry.objects.get().change_message
    for table in connection.introspection.table_names():
        with connection.cursor() as cursor:
            cursor.execute(f'SELECT * FROM "{table}"')
            assert token not in str(cursor.fetchall()), table


def test_the_list_tells_tokens_apart(admin_client: Client) -> None:
    token, _html = issue(admin_client)
    html = admin_client.get(LIST).content.decode()
    assert "laptop" in html and f"…{token[-4:]}" in html


def test_a_tokens_note_and_whether_it_is_enabled_can_be_changed(admin_client: Client) -> None:
    issue(admin_client)
    row = AccessToken.objects.get()
    url = f"{LIST}{row.pk}/change/"
    assert list(admin_client.get(url).context["adminform"].form.fields) == ["note", "enabled"]
    before = current_versions().number
    response = admin_client.post(url, {"note": "desk", "digest": "0" * 64, "hint": "0000"})
    assert response.status_code == 302
    changed = AccessToken.objects.get()
    assert (changed.note, changed.enabled) == ("desk", False)
    assert (changed.digest, changed.hint) == (row.digest, row.hint)
    assert current_versions().number > before


def test_disabled_tokens_stop_working_and_enabled_ones_work_again(admin_client: Client) -> None:
    issue(admin_client)
    row = AccessToken.objects.get()
    for action, working in (("disable", 0), ("enable", 1)):
        before = current_versions().number
        admin_client.post(LIST, {"action": action, "_selected_action": [row.pk]})
        assert len(load_snapshot().tokens) == working
        assert current_versions().number > before
    assert [entry.change_message for entry in LogEntry.objects.order_by("pk")][1:] == [
        "Disabled.",
        "Enabled.",
    ]


def test_every_token_is_another_one(admin_client: Client) -> None:
    first, _html = issue(admin_client)
    second, _html = issue(admin_client)
    assert first != second
    assert AccessToken.objects.count() == 2
