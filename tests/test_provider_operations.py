"""What an operator does on the list of providers: see, cool down, reset, reorder, begin anew."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from providers.client_setup import HEADER, UNKNOWN_TOKEN, snippets
from providers.endpoints import anthropic_url, chat_completions_url
from providers.health import HealthTable
from providers.health_store import read_rows
from providers.loading import current_versions, load_settings, load_snapshot
from providers.models import (
    PROFILE_CHECKS,
    AvoidedProvider,
    LearnedFact,
    Provider,
    ProviderHealth,
    ProxySettings,
)
from providers.presets import BY_SLUG, GROUPS, PRESETS, Preset, placeholder_in
from providers.routing import Credentials
from providers.validation import base_url_problem

pytestmark = pytest.mark.django_db

LIST = "/admin/providers/provider/"


@pytest.fixture
def second() -> Provider:
    return Provider.objects.create(name="second", position=1, base_url="https://h", api_key="k")


def act(client: Client, action: str, *providers: Provider) -> Any:
    keys = [provider.pk for provider in providers]
    return client.post(LIST, {"action": action, "_selected_action": keys}, follow=True)


def state_of(provider: Provider) -> Any:
    """As a worker sees it, once it has read the rows."""
    now, settings = time.time(), load_settings()
    table = HealthTable()
    table.load(read_rows(), settings, now)
    return table.state_of(provider.pk, settings, now)


# --- state ------------------------------------------------------------------


def test_the_list_shows_states_with_the_time_to_return(
    admin_client: Client, second: Provider
) -> None:
    now = time.time()
    ProviderHealth.objects.create(
        provider=second, cause="failures", reason="5 failures in a row (500)", failures=5,
        since=now - 10, until=now + 50,
    )  # fmt: skip
    html = admin_client.get(LIST).content.decode()
    assert "healthy" in html and "cooling down" in html
    assert "5 failures in a row (500)" in html and "data-until=" in html


def test_the_states_of_a_hundred_providers_take_as_many_queries_as_two(
    admin_client: Client, second: Provider
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            admin_client.get(LIST)
        return len(captured)

    few = queries()
    for number in range(100):
        row = Provider.objects.create(name=f"p{number}", base_url="https://h", api_key="k")
        ProviderHealth.objects.create(provider=row, failures=1)
    assert queries() == few <= 12


# --- actions ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "seconds"),
    [
        ("cool_down_5m", 300),
        ("cool_down_1h", 3600),
        ("cool_down_8h", 8 * 3600),
        ("cool_down_1d", 86400),
    ],
)
def test_an_operator_cools_a_provider_down(
    admin_client: Client, second: Provider, action: str, seconds: float
) -> None:
    before = current_versions().health
    act(admin_client, action, second)
    state = state_of(second)
    assert state.until == pytest.approx(time.time() + seconds, abs=5)
    assert state.reason == "set by admin"
    assert current_versions().health > before, "the workers were not told"
    assert "Cooled down" in LogEntry.objects.get().get_change_message()


def test_an_operator_resets_the_health_for_everybody(
    admin_client: Client, second: Provider
) -> None:
    now = time.time()
    for scope in ({}, {"model": "opus"}, {"credential": "abc"}):
        ProviderHealth.objects.create(
            provider=second, cause="limit", since=now - 5, until=now + 9000, failures=3, **scope
        )
    other = Provider.objects.get(name="anthropic-primary")
    ProviderHealth.objects.create(
        provider=other, cause="limit", since=now - 5, until=now + 9000, failures=3
    )
    for provider in (second, other):
        AvoidedProvider.objects.create(provider=provider, conversation="a", until=now + 60)
    before = current_versions().avoidance
    act(admin_client, "reset_health", second)
    state = state_of(second)
    assert (state.until, state.failures, state.limits) == (None, 0, ())
    assert AvoidedProvider.objects.get().provider == other
    assert current_versions().avoidance > before, "the workers were not told"
    assert state_of(other).until is not None
    assert LogEntry.objects.get().object_repr == "second"


def test_cooling_down_where_cooldowns_are_off_says_that_it_has_no_effect(
    admin_client: Client, second: Provider
) -> None:
    ProxySettings(max_cooldown=0).save()
    html = act(admin_client, "cool_down_5m", second).content.decode()
    assert "Cooldowns are switched off" in html


def test_a_viewer_has_no_actions_and_no_way_to_move(client: Client, second: Provider) -> None:
    user = User.objects.create_user("viewer", is_staff=True)
    user.groups.add(Group.objects.get(name="viewer"))
    client.force_login(user)
    html = client.get(LIST).content.decode()
    assert "second" in html and "healthy" in html
    assert 'name="action"' not in html and "ccf-move" not in html
    act(client, "cool_down_5m", second)
    assert state_of(second).until is None
    assert client.post(f"{LIST}{second.pk}/move/up/").status_code == 403
    assert not LogEntry.objects.exists()


# --- order ------------------------------------------------------------------


def names() -> list[str]:
    return [provider.name for provider in load_snapshot().providers]


def test_buttons_move_a_provider_without_a_mouse(admin_client: Client, second: Provider) -> None:
    Provider.objects.create(name="third", position=2, base_url="https://h", api_key="k")
    response = admin_client.post(f"{LIST}{second.pk}/move/up/")
    assert names() == ["second", "anthropic-primary", "third"]
    assert response["location"] == f"{LIST}#up-{second.pk}"
    assert f'id="up-{second.pk}"' in admin_client.get(LIST).content.decode()
    for _ in range(5):
        admin_client.post(f"{LIST}{second.pk}/move/down/")
    assert names() == ["anthropic-primary", "third", "second"]
    moved = "Moved from place 1 to 2."
    assert moved in [e.get_change_message() for e in LogEntry.objects.filter(object_repr="second")]


@pytest.mark.parametrize("path", ["999/move/up/", "1/move/sideways/"])
def test_moving_what_is_not_there_moves_nothing(
    admin_client: Client, second: Provider, path: str
) -> None:
    assert admin_client.post(LIST + path).status_code == 302
    assert names() == ["anthropic-primary", "second"]
    assert admin_client.get(LIST + path).status_code == 405


# --- presets ----------------------------------------------------------------


def submitted(form: Any, **changes: Any) -> dict[str, Any]:
    """What a browser sends of an untouched form, with `changes`."""
    values = {name: form[name].value() for name in form.fields} | changes
    return {n: v for n, v in values.items() if v is not None and v is not False}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.slug)
def test_a_preset_fills_in_a_form_that_can_be_saved_with_a_key_alone(
    admin_client: Client, preset: Preset
) -> None:
    url = f"{LIST}add/?preset={preset.slug}"
    response = admin_client.get(url)
    form = response.context["adminform"].form
    base_url = preset.base_url.replace("RESOURCE", "mine")
    data = submitted(form, api_key="a-key", base_url=base_url)
    formset = response.context["inline_admin_formsets"][0].formset
    rows = [(f.initial["source"], f.initial["target"]) for f in formset.forms]
    assert rows == list(preset.mappings)
    data |= {"mappings-TOTAL_FORMS": len(rows), "mappings-INITIAL_FORMS": 0}
    for number, (source, target) in enumerate(rows):
        own = target.replace("MODEL", "mine")
        data |= {f"mappings-{number}-source": source, f"mappings-{number}-target": own}
    response = admin_client.post(url, data)
    assert response.status_code == 302, response.context["errors"]
    [spec] = [p for p in load_snapshot().providers if p.name == preset.slug]
    assert (spec.base_url, spec.format, spec.credentials) == (
        base_url,
        preset.format,
        Credentials.OWN,
    )
    assert spec.auth_header == preset.auth_header.lower()
    if preset.mappings:
        assert spec.map_model("claude-opus-4-8") != "claude-opus-4-8"


def test_what_has_to_be_replaced_in_a_preset_is_asked_for(admin_client: Client) -> None:
    url = f"{LIST}add/?preset=azure-openai"
    data = submitted(admin_client.get(url).context["adminform"].form, api_key="a-key")
    data |= {"mappings-TOTAL_FORMS": 1, "mappings-INITIAL_FORMS": 0}
    data |= {"mappings-0-source": "*", "mappings-0-target": "MODEL"}
    context = admin_client.post(url, data).context
    assert context["adminform"].form.errors == {"base_url": ["Replace RESOURCE by your own."]}
    [row] = context["inline_admin_formsets"][0].formset.errors
    assert row == {"target": ["Replace MODEL by your own."]}
    assert placeholder_in("https://resource.test/MODELS") == ""


def test_presets_are_sound() -> None:
    assert len(BY_SLUG) == len(PRESETS)
    for preset in PRESETS:
        assert base_url_problem(preset.base_url) is None, preset.slug
        assert preset.group in GROUPS
        assert [p for check in PROFILE_CHECKS for p in check(preset.profile)] == []
        sources = [source for source, _target in preset.mappings]
        assert len(sources) == len(set(sources))


@pytest.mark.parametrize(
    ("slug", "endpoint"),
    [
        ("anthropic-key", "https://api.anthropic.com/v1/messages"),
        ("openrouter", "https://openrouter.ai/api/v1/messages"),
        ("kimi", "https://api.moonshot.ai/anthropic/v1/messages"),
        ("glm", "https://api.z.ai/api/anthropic/v1/messages"),
        ("deepseek", "https://api.deepseek.com/anthropic/v1/messages"),
        ("minimax", "https://api.minimax.io/anthropic/v1/messages"),
        ("vercel", "https://ai-gateway.vercel.sh/v1/messages"),
        ("azure-openai", "https://RESOURCE.openai.azure.com/openai/v1/chat/completions"),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"),
        ("groq", "https://api.groq.com/openai/v1/chat/completions"),
        ("xai", "https://api.x.ai/v1/chat/completions"),
        ("mistral", "https://api.mistral.ai/v1/chat/completions"),
        ("ollama", "http://localhost:11434/v1/messages"),
        ("vllm", "http://localhost:8000/v1/chat/completions"),
        ("litellm", "http://localhost:4000/v1/messages"),
    ],
)
def test_a_preset_leads_to_the_documented_endpoint(slug: str, endpoint: str) -> None:
    preset = BY_SLUG[slug]
    if preset.format == "openai":
        assert chat_completions_url(preset.base_url) == endpoint
    else:
        assert anthropic_url(preset.base_url, "/v1/messages") == endpoint


def test_adding_begins_with_the_choice_of_a_preset(admin_client: Client) -> None:
    html = admin_client.get(f"{LIST}add/").content.decode()
    for preset in PRESETS:
        assert f'href="?preset={preset.slug}"' in html
    form = admin_client.get(f"{LIST}add/?preset=none").context["adminform"].form
    assert form["base_url"].value() in (None, "")


def test_a_server_that_takes_any_key_needs_none(admin_client: Client) -> None:
    url = f"{LIST}add/?preset=ollama"
    data = submitted(admin_client.get(url).context["adminform"].form)
    data |= {"mappings-TOTAL_FORMS": 0, "mappings-INITIAL_FORMS": 0}
    assert admin_client.post(url, data).status_code == 302
    assert Provider.objects.get(name="ollama").api_key == "ollama"


def test_a_second_provider_of_a_preset_gets_another_name(admin_client: Client) -> None:
    Provider.objects.create(name="kimi", base_url="https://h", api_key="k")
    form = admin_client.get(f"{LIST}add/?preset=kimi").context["adminform"].form
    assert form["name"].value() == "kimi-2"


# --- learned facts ----------------------------------------------------------

FACTS = "/admin/providers/learnedfact/"


def fact(provider: Provider, key: str = "supports_top_k") -> LearnedFact:
    return LearnedFact.objects.create(
        provider=provider, model="m", key=key, value=False, repair="r", expires=time.time() + 99
    )


def test_learned_facts_are_listed_and_forgotten(admin_client: Client, second: Provider) -> None:
    forgotten, kept = fact(second), fact(second, "images")
    assert "supports_top_k" in admin_client.get(FACTS).content.decode()
    before = current_versions().knowledge
    admin_client.post(FACTS, {"action": "forget", "_selected_action": [forgotten.pk]})
    assert list(LearnedFact.objects.all()) == [kept]
    assert current_versions().knowledge == before + 1
    assert LogEntry.objects.get().is_deletion()


def test_a_fact_is_read_only_and_a_viewer_cannot_forget_it(
    admin_client: Client, client: Client, second: Provider
) -> None:
    row = fact(second)
    assert admin_client.get(f"{FACTS}add/").status_code == 403
    assert admin_client.post(f"{FACTS}{row.pk}/change/", {"value": "true"}).status_code == 403
    actions = admin_client.get(FACTS).context["action_form"].fields["action"].choices
    assert [name for name, _label in actions if name] == ["forget"]
    user = User.objects.create_user("viewer", is_staff=True)
    user.groups.add(Group.objects.get(name="viewer"))
    client.force_login(user)
    assert "supports_top_k" in client.get(FACTS).content.decode()
    client.post(FACTS, {"action": "forget", "_selected_action": [row.pk]})
    assert LearnedFact.objects.exists()


# --- connect a client -------------------------------------------------------


@pytest.mark.parametrize("own_login", [True, False])
def test_every_snippet_has_the_address_and_the_token(own_login: bool) -> None:
    for snippet in snippets("https://proxy.example", "sk-ccf-token", own_login=own_login):
        assert "https://proxy.example" in snippet.text, snippet.key
        assert "sk-ccf-token" in snippet.text, snippet.key
        if own_login:
            assert HEADER in snippet.text or "x-ccf-api-key" in snippet.text


def test_the_page_shows_the_address_that_it_was_reached_at(admin_client: Client) -> None:
    response = admin_client.get("/admin/connect/", headers={"host": "localhost:8080"})
    [shell] = [s for s in response.context["snippets"] if s.key == "shell"]
    assert "http://localhost:8080" in shell.text and UNKNOWN_TOKEN in shell.text
    other = admin_client.get("/admin/connect/?login=proxy").context["snippets"][0].text
    assert "ANTHROPIC_AUTH_TOKEN" in other and "CUSTOM_HEADERS" not in other
