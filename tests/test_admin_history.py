"""The request history in the admin: what it shows, and what it never asks the database."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from providers.models import Provider
from proxy.admin import history_filters
from proxy.admin.history_links import choice_of, read_choice
from proxy.admin.history_pages import search
from proxy.models import Attempt, RequestLog
from proxy.viewers import create_viewer_group

pytestmark = pytest.mark.django_db

LIST = "/admin/proxy/requestlog/"


def record(number: int = 1, **fields: Any) -> RequestLog:
    values: dict[str, Any] = {
        "time": timezone.now(),
        "request_id": f"req_{number:04}",
        "session_id": f"5e55{number:04}-0000",
        "token": "laptop",
        "model": "claude-opus-5",
        "model_sent": "anthropic/claude-opus",
        "provider": "openrouter",
        "fell_back": True,
        "status": 200,
        "outcome": "answered",
        "first_byte_ms": 1234,
        "duration_ms": 45678,
        "input_tokens": 1000,
        "cache_read_tokens": 98765,
        "output_tokens": 321,
    }
    return RequestLog.objects.create(**{**values, **fields})


def tried(call: RequestLog, *steps: tuple[str, str]) -> None:
    Attempt.objects.bulk_create(
        Attempt(call=call, number=number, provider=provider, result=result)
        for number, (provider, result) in enumerate(steps)
    )


def shown(response: Any) -> list[str]:
    """The request ids on a page of the list, in their order."""
    return [call.request_id for call in response.context["cl"].result_list]


def test_the_list_shows_how_a_call_was_answered(admin_client: Client) -> None:
    call = record()
    tried(call, ("anthropic-primary", "429"), ("openrouter", "200"))
    html = admin_client.get(LIST).content.decode()
    for text in (
        "claude-opus-5",
        '<span class="ccf-badge">fell back</span>',
        '<span class="ccf-step">anthropic-primary 429</span>',
        '<span class="ccf-step">openrouter 200</span>',
        '<span class="ccf-good">answered</span>',
        "1.2 s",
        "45.7 s",
        "1,000 / 98,765 / 321",
        "laptop",
        "?session=5e550001-0000",
    ):
        assert text in html, text
    assert html.index("anthropic-primary 429") < html.index("openrouter 200")


def test_repeated_attempts_are_shown_as_one_step(admin_client: Client) -> None:
    tried(record(), ("a", "529"), ("a", "529"), ("b", "skipped"), ("a", "200"))
    html = admin_client.get(LIST).content.decode()
    steps = ["a 529 ×2", "b skipped", "a 200"]
    assert [html.index(f'<span class="ccf-step">{step}</span>') for step in steps]


def test_what_a_provider_said_cannot_inject_markup(admin_client: Client) -> None:
    call = record(provider="<b>x</b>", model="<i>m</i>", error="<script>1</script>")
    tried(call, ("<u>p</u>", "<s>r</s>"))
    for url in (LIST, f"{LIST}{call.pk}/change/"):
        html = admin_client.get(url).content.decode()
        for tag in ("<b>x", "<i>m", "<script>1", "<u>p", "<s>r"):
            assert tag not in html


def test_a_call_that_nobody_answered_is_shown(admin_client: Client) -> None:
    call = record(
        provider="", status=None, outcome="cancelled", fell_back=False, first_byte_ms=None,
        input_tokens=None, cache_read_tokens=None, output_tokens=None, session_id="",
    )  # fmt: skip
    assert "cancelled by the client" in admin_client.get(LIST).content.decode()
    assert admin_client.get(f"{LIST}{call.pk}/change/").status_code == 200


def test_the_page_of_a_call_shows_every_attempt(admin_client: Client) -> None:
    call = record()
    Attempt.objects.create(
        call=call,
        number=1,
        provider="anthropic-primary",
        result="429",
        error_type="rate_limit_error",
        error_message="slow down, please",
        duration_ms=87,
    )
    html = admin_client.get(f"{LIST}{call.pk}/change/").content.decode()
    for text in ("rate_limit_error", "slow down, please", "87", "req_0001", "5e550001"):
        assert text in html


def test_the_history_cannot_be_changed(admin_client: Client) -> None:
    call = record()
    html = admin_client.get(f"{LIST}{call.pk}/change/").content.decode()
    assert 'name="_save"' not in html and "deletelink" not in html
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert admin_client.post(f"{LIST}{call.pk}/change/", {"status": 500}).status_code == 403
    assert admin_client.post(f"{LIST}{call.pk}/delete/", {"post": "yes"}).status_code == 403
    action = {"action": "delete_selected", "_selected_action": [call.pk], "post": "yes"}
    admin_client.post(LIST, action)
    assert RequestLog.objects.get().status == 200


# --- what it costs ----------------------------------------------------------


def test_no_page_counts_the_calls(admin_client: Client) -> None:
    for number in range(250):
        tried(record(number), ("openrouter", "200"))
    newest = RequestLog.objects.first()
    assert newest
    urls = (
        LIST,
        f"{LIST}?p=2",
        f"{LIST}?all=",
        f"{LIST}?_facets=True",
        f"{LIST}?provider=openrouter&outcome=answered&fell_back=1&kind=other",
        f"{LIST}?since=24&model=claude-opus-5&token=laptop",
        f"{LIST}?q=req_00",
        f"{LIST}?q=5e55&p=2",
        f"{LIST}{newest.pk}/change/",
    )
    for url in urls:
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(url).status_code == 200
        asked = [query["sql"] for query in queries if "proxy_requestlog" in query["sql"]]
        assert asked, url
        for sql in asked:
            assert "COUNT(" not in sql.upper(), url
            # One row, one page, or the newest rows: never the whole table.
            limited = "LIMIT" in sql or '"id" >' in sql or '"call_id" IN' in sql
            assert limited, sql


def test_a_hundred_calls_take_as_many_queries_as_two(admin_client: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            admin_client.get(LIST)
        return len(captured)

    for number in range(2):
        tried(record(number), ("a", "429"), ("b", "200"))
    few = queries()
    for number in range(2, 100):
        tried(record(number), ("a", "429"), ("b", "200"))
    assert queries() == few
    assert few <= 10


@pytest.mark.skipif(connection.vendor != "sqlite", reason="reads a plan in SQLite's words")
def test_a_search_reads_the_indexes_alone(admin_client: Client) -> None:
    plan = search(RequestLog.objects.all(), "req_0")[:101].explain()
    assert "SCAN proxy_requestlog" not in plan, plan
    assert plan.count("USING COVERING INDEX") + plan.count("USING INDEX") >= 2, plan


@pytest.mark.skipif(connection.vendor != "sqlite", reason="reads a plan in SQLite's words")
@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("", "call_by_time"),
        ("provider=kimi", "call_by_time"),
        ("provider=kimi&since=24", "call_by_time (time>?)"),
        ("model=m", "call_by_time"),
        ("token=t&kind=count", "call_by_time"),
        ("outcome=failed", "call_not_answered_time"),
        ("outcome=any", "call_not_answered_time"),
        ("fell_back=1", "call_fell_back_time"),
        ("kind=other", "call_other_path_time"),
        ("since=1790000000-1790003600", "call_by_time (time>? AND time<?)"),
        ("session=s", "proxy_requestlog_session_id"),
    ],
)
def test_a_filter_reads_an_index(admin_client: Client, query: str, index: str) -> None:
    calls = admin_client.get(f"{LIST}?{query}").context["cl"].queryset
    plan = calls[:101].explain()
    assert index in plan, plan
    # Newest first is the order of the index; only calls of one moment, or a few, are sorted.
    plan = plan.replace("USE TEMP B-TREE FOR RIGHT PART OF ORDER BY", "")
    plan = plan.replace("USE TEMP B-TREE FOR LAST TERM OF ORDER BY", "")
    assert "TEMP B-TREE" not in plan or query in ("session=s", "outcome=any"), plan


def test_the_choices_of_the_filters_come_from_the_newest_calls(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_filters, "RECENT_ROWS", 2)
    Provider.objects.create(name="configured", base_url="https://h", api_key="k")
    record(1, provider="gone", model="old-model")
    record(2, provider="seen-2", model="m-2")
    record(3, provider="seen-3", model="m-3", token="other")

    def choices(url: str, parameter: str) -> list[str]:
        specs = admin_client.get(url).context["cl"].filter_specs
        found = [s for s in specs if s.expected_parameters() == [parameter]]
        return [str(title) for _value, title in found[0].lookup_choices]

    providers = ["anthropic-primary", "configured", "seen-2", "seen-3", "nobody"]
    assert choices(LIST, "provider") == providers
    assert choices(LIST, "model") == ["m-2", "m-3", "none"]
    assert choices(LIST, "token") == ["laptop", "other", "none"]
    # What is chosen stays, however old it is.
    assert "gone" in choices(f"{LIST}?provider=gone", "provider")
    assert shown(admin_client.get(f"{LIST}?provider=gone")) == ["req_0001"]


# --- filters, search, pages -------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("provider=openrouter", ["req_0001"]),
        ("provider=-", ["req_0003"]),
        ("outcome=failed", ["req_0003"]),
        ("outcome=any", ["req_0003"]),
        ("outcome=nonsense", ["req_0003", "req_0002", "req_0001"]),
        ("fell_back=1", ["req_0001"]),
        ("fell_back=0", ["req_0003", "req_0002"]),
        ("fell_back=x&outcome=failed", ["req_0003"]),
        ("model=haiku", ["req_0002"]),
        ("token=desk", ["req_0002"]),
        ("since=24", ["req_0003", "req_0002"]),
        ("since=nonsense", ["req_0003", "req_0002", "req_0001"]),
        ("kind=messages", ["req_0003", "req_0001"]),
        ("kind=count", ["req_0002"]),
        ("kind=other", []),
        ("q=req_0002", ["req_0002"]),
        ("q=+req_0+", ["req_0003", "req_0002", "req_0001"]),
        ("q=REQ_0", []),
        ("q=eq_0", []),
        ("q=5e550003", ["req_0003"]),
        ("q=%25", []),
        ("q=5e55&provider=openrouter", ["req_0001"]),
    ],
)
def test_calls_are_found_by(admin_client: Client, query: str, expected: list[str]) -> None:
    record(1, time=timezone.now() - datetime.timedelta(days=2))
    record(2, provider="p2", fell_back=False, model="haiku", token="desk",
           path="/v1/messages/count_tokens")  # fmt: skip
    record(3, provider="", fell_back=False, outcome="failed")
    assert shown(admin_client.get(f"{LIST}?{query}")) == expected


def test_a_form_without_choices_leads_to_a_short_address(admin_client: Client) -> None:
    record()
    sent = "q=&since=&provider=openrouter&outcome=&fell_back=&model=&token=&kind="
    response = admin_client.get(f"{LIST}?{sent}")
    assert (response.status_code, response["location"]) == (302, f"{LIST}?provider=openrouter")
    assert admin_client.get(f"{LIST}?q=&model=")["location"] == LIST


@pytest.mark.parametrize("name", ["", "-", "--", "kimi", "a-b", "-kimi"])
def test_every_name_can_be_a_choice(name: str) -> None:
    choice = choice_of(name)
    assert choice and read_choice(choice) == name
    assert name == "" or choice != choice_of("")


def test_what_is_chosen_stays_chosen_in_the_form(admin_client: Client) -> None:
    record(1, provider="")
    html = admin_client.get(f"{LIST}?provider=-&session=5e550001-0000").content.decode()
    assert '<option value="-" selected>nobody</option>' in html
    assert '<input type="hidden" name="session" value="5e550001-0000">' in html
    assert html.count(" selected>") == 1


def test_a_session_is_read_in_the_order_in_which_its_calls_began(admin_client: Client) -> None:
    now = timezone.now()
    for number, ago in ((1, 10), (2, 60), (3, 5)):
        record(number, session_id="s", time=now - datetime.timedelta(seconds=ago))
    assert shown(admin_client.get(f"{LIST}?session=s")) == ["req_0002", "req_0001", "req_0003"]
    assert shown(admin_client.get(LIST)) == ["req_0003", "req_0001", "req_0002"]


def test_pages_lead_to_newer_and_older_calls(admin_client: Client) -> None:
    for number in range(205):
        record(number)
    first, second, last = (admin_client.get(f"{LIST}?p={page}") for page in (1, 2, 3))
    assert [len(shown(page)) for page in (first, second, last)] == [100, 100, 5]
    assert (shown(first)[0], shown(second)[0], shown(last)[-1]) == (
        "req_0204",
        "req_0104",
        "req_0000",
    )
    links = [(page.context["cl"].newer, page.context["cl"].older) for page in (first, second, last)]
    assert links == [(None, "?p=2"), ("?p=1", "?p=3"), ("?p=2", None)]
    assert 'href="?p=3"' in second.content.decode()


def test_a_page_keeps_the_filter(admin_client: Client) -> None:
    for number in range(101):
        record(number)
    page = admin_client.get(f"{LIST}?provider=openrouter").context["cl"]
    assert page.older == "?p=2&provider=openrouter"


@pytest.mark.parametrize("page", ["0", "-3", "x", "7", "99999999999999999999999"])
def test_a_page_that_is_not_there_is_no_error(admin_client: Client, page: str) -> None:
    record()
    assert admin_client.get(f"{LIST}?p={page}").status_code == 200


def test_an_exactly_full_page_has_no_older_one(admin_client: Client) -> None:
    for number in range(100):
        record(number)
    assert admin_client.get(LIST).context["cl"].older is None


# --- who may ----------------------------------------------------------------


def test_a_viewer_reads_the_history(client: Client) -> None:
    call = record()
    tried(call, ("anthropic-primary", "429"))
    user = User.objects.create_user("viewer", is_staff=True)
    client.force_login(user)
    assert client.get(LIST).status_code == 403
    user.groups.add(Group.objects.get(name="viewer"))
    client.force_login(user)
    assert shown(client.get(LIST)) == ["req_0001"]
    assert "anthropic-primary" in client.get(f"{LIST}{call.pk}/change/").content.decode()


def test_the_viewer_group_is_made_after_migrating_and_left_alone_from_then_on() -> None:
    from django.apps import apps

    group = Group.objects.get(name="viewer")
    assert {p.codename for p in group.permissions.all()} == {
        "view_requestlog",
        "view_attempt",
        "view_provider",
        "view_modelmapping",
        "view_learnedfact",
        "view_proxysettings",
    }
    group.permissions.clear()
    create_viewer_group(apps.get_app_config("proxy"))
    assert not group.permissions.exists()
    # Even where the permissions are not there yet.
    group.delete()
    Permission.objects.filter(content_type__app_label="providers").delete()
    create_viewer_group(apps.get_app_config("proxy"))
    assert Group.objects.get(name="viewer").permissions.count() == 6
