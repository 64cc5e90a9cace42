"""The front page: who is answering, why, when the primary returns, and how it has been."""

from __future__ import annotations

import datetime
import re
import time
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from providers.conditions import ProviderCondition
from providers.models import AccessToken, Provider, ProviderHealth
from proxy.admin import charts
from proxy.admin.figures import RANGES
from proxy.admin.now import headline
from proxy.history.rows import write_rows
from proxy.models import RequestLog
from tests.calls import NOW, finished

pytestmark = pytest.mark.django_db


def provider(name: str, position: int, **fields: Any) -> Provider:
    values = {"base_url": "https://host", "api_key": "sk-the-secret-key-1234", **fields}
    return Provider.objects.create(name=name, position=position, **values)


def text(html: str) -> str:
    """The words of a page, without its markup."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


def front(client: Client, query: str = "") -> tuple[Any, str]:
    response = client.get(f"/admin/{query}")
    assert response.status_code == 200
    return response, text(response.content.decode())


# --- who is answering -------------------------------------------------------

HEALTHY = ProviderCondition(1, "primary", "healthy")
COOLING = ProviderCondition(1, "primary", "cooling down", reason="5-hour limit", until=NOW + 3900)
SECOND = ProviderCondition(2, "second", "healthy")


@pytest.mark.parametrize(
    ("conditions", "style", "said"),
    [
        ([HEALTHY, SECOND], "good", "primary is answering."),
        ([ProviderCondition(1, "primary", "failing", failures=2)], "good", "primary is answering."),
        ([COOLING, SECOND], "warn", "second is answering."),
        ([ProviderCondition(1, "primary", "disabled"), SECOND], "good", "second is answering."),
        ([COOLING], "bad", "Every provider is cooling down; primary is tried all the same."),
        ([ProviderCondition(1, "primary", "disabled")], "bad", "No provider is enabled"),
        ([], "bad", "No provider is enabled"),
    ],
)
def test_the_headline_says_who_answers(
    conditions: list[ProviderCondition], style: str, said: str
) -> None:
    found = headline(conditions, NOW)
    assert found.style == f"ccf-{style}"
    assert said in found.text


def test_the_headline_says_why_and_when_the_primary_returns() -> None:
    found = headline([COOLING, SECOND], NOW)
    assert "primary is cooling down until" in found.rest and "5-hour limit" in found.rest
    assert "in 1 h 5 min" in found.countdown
    assert f'data-until="{NOW + 3900:.0f}"' in found.countdown


def test_a_limit_of_one_model_does_not_take_the_primary_out() -> None:
    limited = ProviderCondition(
        1, "primary", "cooling down", scope="model", model="opus", reason="r", until=NOW + 60
    )
    found = headline([limited, SECOND], NOW)
    assert found.text == "primary is answering."
    assert "one model (opus)" in found.rest


def test_a_limit_of_a_clients_credentials_does() -> None:
    limited = ProviderCondition(
        1, "primary", "cooling down", scope="credential", reason="r", until=NOW + 60
    )
    found = headline([limited, SECOND], NOW)
    assert found.text == "second is answering."
    assert "one client's credentials" in found.rest


def test_each_provider_has_a_card_with_its_state(admin_client: Client) -> None:
    now = time.time()
    second = provider("second", 1)
    provider("third", 2, enabled=False)
    ProviderHealth.objects.create(
        provider=second, cause="limit", reason="7-day limit", since=now - 5, until=now + 7200,
        failures=1, last_failure=now - 65, last_error="<b>slow</b> down",
    )  # fmt: skip
    response, said = front(admin_client)
    cards = {card.name: card for card in response.context["cards"]}
    assert list(cards) == ["anthropic-primary", "second", "third"]
    assert "healthy" in cards["anthropic-primary"].badge
    assert "cooling down" in cards["second"].badge
    assert "in 2 h" in cards["second"].countdown
    assert "7-day limit" in cards["second"].until
    assert cards["second"].last_error == "65 s ago: <b>slow</b> down"
    assert "disabled" in cards["third"].badge and not cards["third"].countdown
    assert "<b>slow" not in response.content.decode()
    assert "anthropic-primary is answering." in said


def test_a_card_has_the_figures_of_the_last_day(admin_client: Client) -> None:
    now = time.time()
    calls = [finished(("second", 200), time=now) for _ in range(3)]
    for call, first_byte in zip(calls, (0.1, 0.9, 0.5), strict=True):
        call.first_byte = first_byte
    write_rows([*calls, finished(("second", 500), ("anthropic-primary", 200), time=now)])
    write_rows([finished(("second", 500), ("x", 200), time=now - 26 * 3600)])
    provider("second", 1)
    cards = {card.name: card for card in front(admin_client)[0].context["cards"]}
    card = cards["second"]
    assert (card.first_byte, card.success, card.calls) == ("500 ms", "75 %", "3")
    # The figure leads to exactly these calls.
    listed = admin_client.get(card.calls_url).context["cl"].result_list
    assert [call.provider for call in listed] == ["second"] * 3


# --- how it has been --------------------------------------------------------


def test_figures_are_links_to_exactly_the_calls_they_count(admin_client: Client) -> None:
    now = time.time()
    hour = now // 3600 * 3600
    write_rows(
        [
            finished(("a", 429), ("b", 200), time=hour),
            finished(("a", 200), time=hour - 3600),
            finished(("a", 200), time=hour - 23 * 3600),
            finished(("a", 200), time=hour - 23 * 3600 - 1),
            finished(("a", 500), time=hour, outcome="failed"),
            finished(("a", 200), time=hour, path="/v1/messages/count_tokens"),
        ]
    )
    context = front(admin_client)[0].context
    tiles = {str(tile.label): tile for tile in context["tiles"]}
    assert (tiles["Calls"].figure, tiles["Fallbacks"].figure, tiles["Errors"].figure) == (
        "4",
        "25 %",
        "25 %",
    )
    for url, count in [
        (tiles["Calls"].url, 4),
        (tiles["Fallbacks"].url, 1),
        (tiles["Errors"].url, 1),
        *((row.url, row.figures.calls) for row in context["rows"]),
        *((row.errors_url, row.figures.errors) for row in context["rows"]),
        *((column.url, column.total.calls) for column in context["chart"]),
    ]:
        assert len(admin_client.get(url).context["cl"].result_list) == count, url


@pytest.mark.parametrize(
    ("name", "columns", "calls"), [("24h", 24, 1), ("7d", 28, 2), ("30d", 30, 3)]
)
def test_a_range_can_be_chosen(admin_client: Client, name: str, columns: int, calls: int) -> None:
    now = time.time()
    ago = (0, 5 * 86400, 20 * 86400, 60 * 86400)
    write_rows([finished(("a", 200), time=now - seconds) for seconds in ago])
    context = front(admin_client, f"?range={name}")[0].context
    assert len(context["chart"]) == columns
    assert sum(column.total.calls for column in context["chart"]) == calls
    assert [current for n, _label, current in context["ranges"] if n == name] == [True]


def test_an_unknown_range_is_the_first_one(admin_client: Client) -> None:
    assert len(front(admin_client, "?range=nonsense")[0].context["chart"]) == 24


@pytest.mark.parametrize(
    ("zone", "past"),
    [("UTC", 0), ("Europe/Berlin", 0), ("America/Lima", 0), ("Asia/Kolkata", 30)],
)
def test_the_columns_of_days_begin_at_midnight_where_the_operator_is(zone: str, past: int) -> None:
    with timezone.override(zone):
        today = RANGES["30d"].begin(NOW) + 29 * 86400
        local = timezone.localtime(datetime.datetime.fromtimestamp(today, datetime.UTC))
    assert (local.hour, local.minute) == (0, past)
    assert today <= NOW < today + 86400


def test_the_dashboard_of_an_empty_installation_says_what_to_do(admin_client: Client) -> None:
    response, said = front(admin_client)
    assert "No calls yet: connect a client" in said
    assert [step.done for step in response.context["first_steps"]] == [False, False, False]
    provider("second", 1)
    AccessToken.issue("laptop")
    assert [s.done for s in front(admin_client)[0].context["first_steps"]] == [True, True, False]
    write_rows([finished(("second", 200), time=time.time())])
    assert "No calls yet" not in front(admin_client)[1]


def test_it_takes_as_many_queries_for_a_hundred_calls_and_providers(admin_client: Client) -> None:
    def queries() -> list[str]:
        with CaptureQueriesContext(connection) as captured:
            front(admin_client)
        return [query["sql"] for query in captured]

    now = time.time()
    provider("p0", 1)
    write_rows([finished(("p0", 200), time=now)])
    few = queries()
    for number in range(1, 40):
        provider(f"p{number}", number)
    write_rows([finished((f"p{n % 40}", 200), time=now - n * 3000) for n in range(100)])
    many = queries()
    assert len(many) == len(few) <= 12, many
    # The history itself is only looked at from its newest end.
    for sql in many:
        if "proxy_requestlog" in sql:
            assert "LIMIT" in sql or '"id" >' in sql, sql


def test_what_the_navigation_does_not_lead_to_is_linked(admin_client: Client) -> None:
    response, said = front(admin_client)
    assert [str(name) for _url, name in response.context["others"]] == ["Groups", "Users"]
    assert "Everything else Groups Users" in said


def test_the_last_calls_are_shown(admin_client: Client) -> None:
    now = time.time()
    write_rows([finished(("a", 200), time=now, request_id=f"req_{n}") for n in range(12)])
    response, said = front(admin_client)
    last = response.context["last_calls"]
    assert [call.row.request_id for call in last] == [f"req_{n}" for n in range(11, 1, -1)]
    assert "Last calls" in said


# --- who may ----------------------------------------------------------------


def test_a_viewer_sees_the_dashboard_and_no_key(client: Client) -> None:
    provider("second", 1)
    write_rows([finished(("second", 200), time=time.time())])
    user = User.objects.create_user("viewer", is_staff=True)
    user.groups.add(Group.objects.get(name="viewer"))
    client.force_login(user)
    response, said = front(client)
    assert "is answering." in said and "Last calls" in said
    assert "the-secret-key" not in response.content.decode() and "1234" not in said
    navigation = [str(label) for _url, label, _current in response.context["navigation"]]
    assert navigation == [
        "Overview",
        "History",
        "Providers",
        "Connect a client",
        "Learned",
        "Settings",
    ]


def test_who_may_not_see_the_history_sees_none_of_its_figures(client: Client) -> None:
    write_rows([finished(("second", 200), time=time.time(), request_id="req_hidden")])
    user = User.objects.create_user("somebody", is_staff=True)
    client.force_login(user)
    response, said = front(client)
    assert "chart" not in response.context and "cards" not in response.context
    assert "is answering" not in said and "Last calls" not in said
    user.user_permissions.add(Permission.objects.get(codename="view_provider"))
    client.force_login(User.objects.get(pk=user.pk))
    response, said = front(client)
    assert "is answering" in said and "Success" not in said


# --- geometry ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("highest", "top"), [(0, 2), (1, 2), (3, 4), (5, 5), (7, 10), (11, 20), (41, 50), (999, 1000)]
)
def test_the_scale_ends_at_a_round_number(highest: int, top: int) -> None:
    assert charts.round_top(highest) == top


def test_segments_stand_on_one_another() -> None:
    [first, second] = charts.stacked([[1, 0, 3]], 8)[0]
    assert (first.series, first.y, first.height) == (0, "87.50", "12.50")
    assert (second.series, second.y, second.height) == (2, "50.00", "37.50")


def test_even_the_shortest_bar_of_a_waterfall_is_visible_and_none_leaves_it() -> None:
    bars = charts.waterfall([(0, 0), (10, 90), (100, 50), (5000, 0)], 100)
    for bar in bars:
        assert float(bar.width) >= 0.5
        assert float(bar.x) >= 0 and float(bar.x) + float(bar.width) <= 100


def test_no_chart_needs_an_inline_style_or_script(admin_client: Client) -> None:
    write_rows([finished(("a", 429), ("b", 200), time=time.time())])
    call = RequestLog.objects.get()
    for url in ("/admin/", f"/admin/proxy/requestlog/{call.pk}/change/", "/admin/connect/"):
        html = admin_client.get(url).content.decode()
        assert " style=" not in html and "<style" not in html, url
        assert not re.search(r"\son[a-z]+=", html), url
        assert not re.search(r"<script(?![^>]*\ssrc=)", html), url
