"""Providers in the admin: what is shown, what is kept, what is refused, who may."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from providers import models
from providers.admin import masks
from providers.loading import current_versions, load_snapshot
from providers.models import ModelMapping, Provider, ProxySettings

pytestmark = pytest.mark.django_db

KEY = "sk-or-v1-do-not-show-me-wxyz"
VALUE = "header-value-not-for-eyes"
LIST = "/admin/providers/provider/"


@pytest.fixture
def openrouter() -> Provider:
    headers: Any = {"X-Title": VALUE, "X-Second": "other-secret"}
    provider = Provider.objects.create(
        position=1,
        name="openrouter",
        base_url="https://openrouter.ai/api/v1",
        format="openai",
        api_key=KEY,
        extra_headers=headers,
    )
    ModelMapping.objects.create(provider=provider, source="claude-opus-*", target="opus")
    return provider


def page(provider: Provider) -> str:
    return reverse("admin:providers_provider_change", args=[provider.pk])


def filled(provider: Provider | None = None, **changes: Any) -> dict[str, Any]:
    """The form of `provider` as a browser would send it back, with `changes`."""
    fields = {
        "name": "openrouter",
        "enabled": "on",
        "base_url": "https://openrouter.ai/api/v1",
        "format": "openai",
        "credentials": "own",
        "api_key": "",
        "auth_header": "Authorization",
        "extra_headers": masks.masked(provider.extra_headers) if provider else "{}",
        "on_client_401": "next",
        "retries": "0",
        "connect_limit": "10",
        "idle_limit": "120",
        "first_byte_stream_limit": "120",
        "first_byte_limit": "600",
        "profile": "{}",
        **mappings(*(provider.mappings.all() if provider else ())),
    }
    return {name: value for name, value in {**fields, **changes}.items() if value is not None}


def mappings(*rows: ModelMapping | tuple[str, str]) -> dict[str, Any]:
    known = sum(isinstance(row, ModelMapping) for row in rows)
    data: dict[str, Any] = {"mappings-TOTAL_FORMS": len(rows), "mappings-INITIAL_FORMS": known}
    for number, row in enumerate(rows):
        if isinstance(row, ModelMapping):
            data[f"mappings-{number}-id"] = row.pk
            row = (row.source, row.target)
        data[f"mappings-{number}-source"], data[f"mappings-{number}-target"] = row
    return data


def errors(response: Any) -> Mapping[str, list[str]]:
    assert response.status_code == 200, "the form was accepted"
    found: Mapping[str, list[str]] = response.context["adminform"].form.errors
    return found


def saved(response: Any) -> None:
    assert response.status_code == 302, response.context["errors"]


# --- secrets ----------------------------------------------------------------


def test_the_form_says_which_key_is_stored_without_showing_it(
    admin_client: Client, openrouter: Provider
) -> None:
    html = admin_client.get(page(openrouter)).content.decode()
    assert "<code>••••wxyz</code> is stored" in html
    assert "&quot;X-Title&quot;: &quot;••••••&quot;" in html
    for secret in (KEY, KEY[:-4], VALUE, "other-secret"):
        assert secret not in html


def test_a_short_key_is_not_hinted_at(admin_client: Client, openrouter: Provider) -> None:
    openrouter.api_key = "twelve-chars"
    openrouter.save()
    html = admin_client.get(page(openrouter)).content.decode()
    assert "<code>••••</code> is stored" in html
    assert "hars" not in html


def test_no_page_of_a_provider_holds_a_secret(admin_client: Client, openrouter: Provider) -> None:
    admin_client.post(page(openrouter), filled(openrouter, name="renamed"))
    for url in (LIST, page(openrouter), f"{LIST}{openrouter.pk}/history/", "/admin/"):
        html = admin_client.get(url).content.decode()
        assert KEY not in html and VALUE not in html, url
    html = admin_client.get(f"{LIST}{openrouter.pk}/delete/").content.decode()
    assert KEY not in html and VALUE not in html


def test_an_empty_key_field_and_untouched_masks_keep_what_is_stored(
    admin_client: Client, openrouter: Provider
) -> None:
    saved(admin_client.post(page(openrouter), filled(openrouter, name="renamed")))
    openrouter.refresh_from_db()
    assert openrouter.name == "renamed"
    assert openrouter.api_key == KEY
    assert openrouter.extra_headers == {"X-Title": VALUE, "X-Second": "other-secret"}
    assert LogEntry.objects.get().get_change_message() == "Changed Name and Auth header."


def test_a_new_key_replaces_the_stored_one(admin_client: Client, openrouter: Provider) -> None:
    saved(admin_client.post(page(openrouter), filled(openrouter, api_key=" a-new-key \n")))
    openrouter.refresh_from_db()
    assert openrouter.api_key == "a-new-key"
    assert "a-new-key" not in LogEntry.objects.get().change_message


def test_removing_the_key_needs_other_credentials(
    admin_client: Client, openrouter: Provider
) -> None:
    openrouter.extra_headers = {}
    openrouter.save()
    data = filled(openrouter, remove_key="on")
    assert list(errors(admin_client.post(page(openrouter), data))) == ["api_key"]
    saved(admin_client.post(page(openrouter), {**data, "credentials": "client"}))
    openrouter.refresh_from_db()
    assert openrouter.api_key == ""


def test_the_key_is_removed_even_when_its_field_was_not_sent(
    admin_client: Client, openrouter: Provider
) -> None:
    saved(admin_client.post(page(openrouter), filled(openrouter, remove_key="on", api_key=None)))
    openrouter.refresh_from_db()
    assert openrouter.api_key == ""


def test_a_new_key_together_with_removing_it_is_refused(
    admin_client: Client, openrouter: Provider
) -> None:
    response = admin_client.post(
        page(openrouter), filled(openrouter, remove_key="on", api_key="a-new-key")
    )
    assert list(errors(response)) == ["remove_key"]
    assert "a-new-key" not in response.content.decode()


def test_headers_are_kept_added_changed_and_removed_by_name(
    admin_client: Client, openrouter: Provider
) -> None:
    text = json.dumps({"x-title": masks.MASK, "X-New": "fresh-value"})
    saved(admin_client.post(page(openrouter), filled(openrouter, extra_headers=text)))
    openrouter.refresh_from_db()
    assert openrouter.extra_headers == {"x-title": VALUE, "X-New": "fresh-value"}
    entry = LogEntry.objects.get()
    assert "Extra headers" in entry.get_change_message()
    assert "fresh-value" not in entry.change_message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"X-A": "secret-1",}', "This is not valid JSON: line 1, column"),
        ("[" * 100_000, "This is not valid JSON"),
        ('["secret-1"]', "A JSON object of header names and values is needed."),
        ('{"X-A": "secret-1", "x-a": "secret-2"}', "“X-A” is there twice."),
        ('{"X-Unknown": "••••••"}', "Enter the value of “X-Unknown”."),
        ('{"X-A": ""}', "Enter the value of “X-A”."),
        ('{"X-A": 1}', "The value of “X-A” has to be printable ASCII text."),
        ('{"X-A": "secret-1\\r\\nX-B: 2"}', "The value of “X-A” has to be printable ASCII text."),
        ('{"X A": "secret-1"}', "“X A” is not a header name."),
        ('{"Host": "secret-1"}', "“Host” is set by the proxy itself."),
    ],
)
def test_bad_headers_are_an_error_that_does_not_repeat_their_values(
    admin_client: Client, openrouter: Provider, text: str, problem: str
) -> None:
    response = admin_client.post(page(openrouter), filled(openrouter, extra_headers=text))
    assert problem in errors(response)["extra_headers"][0]
    assert "secret-" not in response.content.decode()
    openrouter.refresh_from_db()
    assert openrouter.extra_headers["X-Title"] == VALUE


def test_a_form_that_comes_back_for_another_error_has_lost_its_new_values(
    admin_client: Client, openrouter: Provider
) -> None:
    text = json.dumps({"X-Title": masks.MASK, "X-New": "fresh-value"})
    data = filled(openrouter, extra_headers=text, api_key="fresh-key", base_url="ftp://x")
    html = admin_client.post(page(openrouter), data).content.decode()
    assert "fresh-value" not in html and "fresh-key" not in html
    assert "&quot;X-Title&quot;: &quot;••••••&quot;" in html
    assert "&quot;X-New&quot;: &quot;&quot;" in html


def test_a_key_that_cannot_be_decrypted_has_to_be_entered_again(
    admin_client: Client, openrouter: Provider, settings: Any
) -> None:
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    html = admin_client.get(page(openrouter)).content.decode()
    assert "A key is stored, but it cannot be decrypted with ENCRYPTION_KEY" in html
    assert "Headers are stored, but they cannot be decrypted with ENCRYPTION_KEY" in html
    assert "cannot be decrypted" in admin_client.get(LIST).content.decode()

    data = filled(openrouter, extra_headers="")
    found = errors(admin_client.post(page(openrouter), data))
    assert "cannot be decrypted" in found["api_key"][0]
    assert "cannot be decrypted" in found["extra_headers"][0]

    saved(admin_client.post(page(openrouter), {**data, "api_key": "again", "extra_headers": "{}"}))
    stored = Provider.objects.get(pk=openrouter.pk)
    assert (stored.api_key, stored.extra_headers) == ("again", {})
    assert "Extra headers" in LogEntry.objects.get().get_change_message()


def test_saving_beside_an_undecryptable_key_does_not_destroy_it(
    admin_client: Client, openrouter: Provider, settings: Any
) -> None:
    openrouter.extra_headers = {}
    openrouter.save()
    right = settings.ENCRYPTION_KEYS
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    data = filled(openrouter, credentials="client")
    saved(admin_client.post(page(openrouter), data))
    settings.ENCRYPTION_KEYS = right
    assert Provider.objects.get(pk=openrouter.pk).api_key == KEY


# --- validation -------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"base_url": "ftp://host"}, "base_url", "has to begin with https"),
        ({"base_url": "https://user:pw@host"}, "base_url", "not into the URL"),
        ({"base_url": "https://ho st"}, "base_url", "not a URL"),
        ({"base_url": ""}, "base_url", "required"),
        ({"name": ""}, "name", "required"),
        ({"name": "anthropic-primary"}, "name", "already exists"),
        ({"auth_header": "x key"}, "auth_header", "not a header name"),
        ({"auth_header": "Host"}, "auth_header", "set by the proxy itself"),
        ({"api_key": ""}, "api_key", "needs a key"),
        ({"api_key": "kéy"}, "api_key", "printable ASCII"),
        ({"credentials": "theirs"}, "credentials", "valid choice"),
        ({"format": "soap"}, "format", "valid choice"),
        ({"profile": "{"}, "profile", "valid JSON"),
        ({"profile": "[]"}, "profile", "A JSON object is needed."),
        ({"retries": "11"}, "retries", "less than or equal to 10"),
        ({"connect_limit": "0"}, "connect_limit", "greater than or equal to 0.1"),
        ({"idle_limit": "nan"}, "idle_limit", "Enter a number"),
        ({"first_byte_limit": ""}, "first_byte_limit", "required"),
    ],
)
def test_a_wrong_value_is_one_error_at_its_field(
    admin_client: Client, changes: dict[str, Any], field: str, problem: str
) -> None:
    response = admin_client.post(f"{LIST}add/", filled(**{"api_key": "a-key", **changes}))
    found = errors(response)
    assert list(found) == [field]
    assert len(found[field]) == 1 and problem in found[field][0]
    assert not Provider.objects.filter(position__gt=0).exists()


@pytest.mark.parametrize(("field", "wrong"), [("connect_limit", "0"), ("profile", "{")])
def test_a_collapsed_group_is_open_when_it_holds_an_error(
    admin_client: Client, openrouter: Provider, field: str, wrong: str
) -> None:
    assert admin_client.get(page(openrouter)).content.decode().count("<details>") == 3
    response = admin_client.post(page(openrouter), filled(openrouter, **{field: wrong}))
    assert response.content.decode().count("<details>") == 2


def test_changing_from_the_clients_credentials_to_a_key_needs_a_key(admin_client: Client) -> None:
    primary = Provider.objects.get(name="anthropic-primary")
    found = errors(admin_client.post(page(primary), filled(primary, name="anthropic-primary")))
    assert list(found) == ["api_key"]


def test_an_empty_profile_is_an_empty_object(admin_client: Client, openrouter: Provider) -> None:
    saved(admin_client.post(page(openrouter), filled(openrouter, profile="")))
    openrouter.refresh_from_db()
    assert openrouter.profile == {}


def test_what_knows_a_dialect_may_refuse_a_profile(
    admin_client: Client, openrouter: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(profile: Mapping[str, Any]) -> list[str]:
        return [f"{name} is no switch" for name in profile]

    monkeypatch.setattr(models, "PROFILE_CHECKS", [check])
    data = filled(openrouter, profile='{"colour": 1, "shape": 2}')
    found = errors(admin_client.post(page(openrouter), data))
    assert found == {"profile": ["colour is no switch", "shape is no switch"]}
    saved(admin_client.post(page(openrouter), filled(openrouter)))


def test_a_mapping_given_twice_is_an_error_at_both_rows(
    admin_client: Client, openrouter: Provider
) -> None:
    rows = mappings(*openrouter.mappings.all(), ("claude-opus-*", "x"), ("*", "y"))
    response = admin_client.post(page(openrouter), filled(openrouter, **rows))
    assert response.status_code == 200
    formset = response.context["inline_admin_formsets"][0].formset
    problem = ["“claude-opus-*” is mapped twice."]
    assert [form.errors.get("source") for form in formset.forms][:2] == [problem, problem]
    assert formset.forms[2].errors == {}
    assert openrouter.mappings.count() == 1


def test_a_new_provider_with_the_same_mapping_twice_is_refused_as_a_whole(
    admin_client: Client,
) -> None:
    data = filled(api_key="a-key", **mappings(("*", "x"), ("*", "y")))
    assert admin_client.post(f"{LIST}add/", data).status_code == 200
    assert not Provider.objects.filter(name="openrouter").exists()


def test_a_new_provider_comes_last_with_its_mappings(
    admin_client: Client, openrouter: Provider
) -> None:
    data = filled(name="second", api_key="a-key", **mappings(("*", "x")))
    saved(admin_client.post(f"{LIST}add/", data))
    last = load_snapshot().providers[-1]
    assert (last.name, last.api_key, last.map_model("any")) == ("second", "a-key", "x")


# --- the list ---------------------------------------------------------------


def drag(client: Client, *places: tuple[int, int]) -> Any:
    url = reverse("admin:providers_provider_sortable_update")
    return client.post(url, json.dumps({"updatedItems": places}), "application/json")


def test_dragging_changes_the_order_for_the_next_call_and_is_logged(
    admin_client: Client, openrouter: Provider
) -> None:
    primary = Provider.objects.get(name="anthropic-primary")
    before = current_versions().number
    assert drag(admin_client, (openrouter.pk, 0), (primary.pk, 1)).status_code == 200
    assert [p.name for p in load_snapshot().providers] == ["openrouter", "anthropic-primary"]
    assert current_versions().number > before
    entries = {entry.object_repr: entry.change_message for entry in LogEntry.objects.all()}
    assert entries == {
        "openrouter": "Moved from place 2 to 1.",
        "anthropic-primary": "Moved from place 1 to 2.",
    }


def test_dragging_works_where_places_are_not_distinct(admin_client: Client) -> None:
    Provider.objects.update(position=0)
    for name in "abcd":
        Provider.objects.create(name=name, base_url="https://h", api_key="k")
    keys = {provider.name: provider.pk for provider in Provider.objects.all()}
    drag(admin_client, (keys["c"], 0), (keys["b"], 1))
    order = list(Provider.objects.values_list("name", "position"))
    assert order == [("anthropic-primary", 0), ("a", 1), ("c", 2), ("b", 3), ("d", 4)]


def test_a_drag_to_the_same_place_changes_nothing(
    admin_client: Client, openrouter: Provider
) -> None:
    before = current_versions().number
    assert drag(admin_client, (openrouter.pk, 1), (999, 2)).status_code == 200
    assert current_versions().number == before
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"updatedItems": [["x", 1]]}', '{"updatedItems": 1}']
)
def test_a_malformed_drag_is_refused(admin_client: Client, body: str) -> None:
    url = reverse("admin:providers_provider_sortable_update")
    assert admin_client.post(url, body, "application/json").status_code == 400
    assert admin_client.get(url).status_code == 405


def act(client: Client, action: str, *providers: Provider) -> Any:
    keys = [provider.pk for provider in providers]
    return client.post(LIST, {"action": action, "_selected_action": keys}, follow=True)


def test_disabling_and_enabling_reach_the_workers_and_are_logged(
    admin_client: Client, openrouter: Provider
) -> None:
    primary = Provider.objects.get(name="anthropic-primary")
    before = current_versions().number
    response = act(admin_client, "disable", openrouter, primary)
    assert "2 were disabled." in response.content.decode()
    assert load_snapshot().providers == ()
    middle = current_versions().number
    assert middle > before
    act(admin_client, "enable", openrouter)
    assert [p.api_key for p in load_snapshot().providers] == [KEY]
    assert current_versions().number > middle
    assert sorted(LogEntry.objects.values_list("object_repr", "change_message")) == [
        ("anthropic-primary", "Disabled."),
        ("openrouter", "Disabled."),
        ("openrouter", "Enabled."),
    ]


def test_the_list_takes_as_many_queries_for_many_providers_as_for_one(
    admin_client: Client, openrouter: Provider
) -> None:
    with CaptureQueriesContext(
        connection,
    ) as few:
        admin_client.get(LIST)
    for number in range(20):
        provider = Provider.objects.create(name=f"p{number}", base_url="https://h", api_key=KEY)
        ModelMapping.objects.create(provider=provider, source="*", target="x")
    with CaptureQueriesContext(connection) as many:
        html = admin_client.get(LIST).content.decode()
    assert html.count('<td class="field-mapping_count">1</td>') == 21
    assert len(many) == len(few)


def test_selected_providers_can_be_deleted(admin_client: Client, openrouter: Provider) -> None:
    keys = {"action": "delete_selected", "_selected_action": [openrouter.pk], "post": "yes"}
    before = current_versions().number
    assert admin_client.post(LIST, keys).status_code == 302
    assert not Provider.objects.filter(pk=openrouter.pk).exists()
    assert current_versions().number > before


# --- settings, permissions --------------------------------------------------


def test_the_settings_are_one_form_with_the_defaults(admin_client: Client) -> None:
    response = admin_client.get("/admin/providers/proxysettings/", follow=True)
    assert response.redirect_chain == [("/admin/providers/proxysettings/1/change/", 302)]
    form = response.context["adminform"].form
    assert form.initial["call_budget"] == 280
    values = {**form.initial, "max_cooldown": 60, "log_error_messages": "on"}
    saved(admin_client.post("/admin/providers/proxysettings/1/change/", values))
    assert load_snapshot().settings.max_cooldown == 60
    assert ProxySettings.objects.count() == 1
    assert admin_client.get("/admin/providers/proxysettings/add/").status_code == 403
    assert admin_client.post("/admin/providers/proxysettings/1/delete/").status_code == 403
    assert admin_client.get("/admin/providers/proxysettings/2/change/").status_code == 302


def test_the_settings_refuse_what_makes_no_sense(admin_client: Client) -> None:
    values = {"max_cooldown": -1, "probe_interval": 0, "patience": "x", "call_budget": 0}
    values |= {"retention_days": -1}
    response = admin_client.post("/admin/providers/proxysettings/1/change/", values)
    assert set(errors(response)) == set(values)


@pytest.fixture
def viewer_client() -> Client:
    user = User.objects.create_user("viewer", is_staff=True)
    user.groups.add(Group.objects.get(name="viewer"))
    client = Client()
    client.force_login(user)
    return client


def test_a_viewer_sees_providers_and_settings_but_no_secret(
    viewer_client: Client, openrouter: Provider
) -> None:
    html = viewer_client.get(page(openrouter)).content.decode()
    assert "https://openrouter.ai/api/v1" in html and "claude-opus-*" in html
    assert "X-Title" in html and "••••wxyz" in html
    assert KEY not in html and VALUE not in html
    assert "drag" not in viewer_client.get(LIST).content.decode()
    assert "280" in viewer_client.get("/admin/providers/proxysettings/1/change/").content.decode()
    assert viewer_client.get("/admin/providers/accesstoken/").status_code == 403


def test_a_viewer_changes_nothing(viewer_client: Client, openrouter: Provider) -> None:
    primary = Provider.objects.get(name="anthropic-primary")
    before = current_versions().number
    assert viewer_client.post(page(openrouter), filled(openrouter, name="x")).status_code == 403
    assert drag(viewer_client, (openrouter.pk, 0), (primary.pk, 1)).status_code == 403
    assert viewer_client.post(f"{LIST}add/", filled(name="x")).status_code == 403
    act(viewer_client, "disable", openrouter)
    assert current_versions().number == before
    openrouter.refresh_from_db()
    assert openrouter.enabled


def test_nobody_gets_in_without_logging_in(client: Client, openrouter: Provider) -> None:
    for url in ("/admin/", LIST, page(openrouter)):
        assert client.get(url)["location"].startswith("/admin/login/")


def test_the_configuration_version_is_not_offered(admin_client: Client) -> None:
    html = admin_client.get("/admin/").content.decode()
    assert "configurationversion" not in html
    assert "Fallback proxy" in html
