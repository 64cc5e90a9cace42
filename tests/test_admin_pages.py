"""Every page of the admin, for everybody: allowed, refused, never broken."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from providers.models import AccessToken, LearnedFact, ModelMapping, Provider, ProviderHealth
from proxy.history.rows import write_rows
from proxy.models import RequestLog
from tests.calls import finished

pytestmark = pytest.mark.django_db

KEY = "sk-a-key-that-nobody-sees-9876"
HEADER = "a-header-value-that-nobody-sees"
HISTORY = "/admin/proxy/requestlog/"


@pytest.fixture
def pages() -> list[str]:
    """The address of every page, in an installation that has one of everything."""
    now = time.time()
    headers: Any = {"X-Team": HEADER}
    provider = Provider.objects.create(
        name="second", position=1, base_url="https://h", api_key=KEY, extra_headers=headers
    )
    ModelMapping.objects.create(provider=provider, source="*", target="m")
    ProviderHealth.objects.create(provider=provider, failures=1, last_failure=now, last_error="e")
    fact = LearnedFact.objects.create(
        provider=provider, model="m", key="supports_top_k", value=False, repair="r", expires=now
    )
    token, _plain = AccessToken.issue("laptop")
    write_rows([finished(("anthropic-primary", 429), ("second", 200), time=now, session_id="s")])
    call = RequestLog.objects.get()
    user = User.objects.create_user("somebody")
    config = "/admin/providers"
    return [
        "/admin/",
        "/admin/?range=30d",
        "/admin/connect/",
        "/admin/transfer/",
        "/admin/test/",
        f"/admin/test/{provider.pk}/",
        HISTORY,
        f"{HISTORY}?session=s",
        f"{HISTORY}export/",
        f"{HISTORY}{call.pk}/change/",
        f"{HISTORY}{call.pk}/history/",
        f"{config}/provider/",
        f"{config}/provider/add/",
        f"{config}/provider/add/?preset=kimi",
        f"{config}/provider/{provider.pk}/change/",
        f"{config}/provider/{provider.pk}/history/",
        f"{config}/provider/{provider.pk}/delete/",
        f"{config}/accesstoken/",
        f"{config}/accesstoken/add/",
        f"{config}/accesstoken/{token.pk}/change/",
        f"{config}/accesstoken/{token.pk}/delete/",
        f"{config}/learnedfact/",
        f"{config}/learnedfact/{fact.pk}/change/",
        f"{config}/learnedfact/{fact.pk}/delete/",
        f"{config}/proxysettings/1/change/",
        f"{config}/proxysettings/1/history/",
        f"/admin/auth/user/{user.pk}/change/",
        "/admin/auth/group/",
        "/admin/password_change/",
    ]


def statuses(client: Client, pages: list[str]) -> dict[str, int]:
    found = {}
    for page in pages:
        response = client.get(page)
        found[page] = response.status_code
        if not response.streaming:
            text = response.content.decode()
            assert KEY not in text and HEADER not in text, page
    return found


POST_ONLY = 405


def test_an_administrator_opens_every_page(admin_client: Client, pages: list[str]) -> None:
    for page, status in statuses(admin_client, pages).items():
        assert status == (POST_ONLY if page.startswith("/admin/test/") else 200), page


OWN = {"/admin/", "/admin/?range=30d", "/admin/connect/", "/admin/password_change/"}
"""What everybody sees who may log in to the admin."""


def test_staff_without_rights_are_refused(client: Client, pages: list[str]) -> None:
    client.force_login(User.objects.create_user("staff", is_staff=True))
    for page, status in statuses(client, pages).items():
        expected = {200} if page in OWN else {403, POST_ONLY}
        assert status in expected, (page, status)
    for page in pages:
        assert client.post(page).status_code in {200, 302, 403, 405}, page


def test_a_viewer_looks_and_changes_nothing(client: Client, pages: list[str]) -> None:
    user = User.objects.create_user("viewer", is_staff=True)
    user.groups.add(Group.objects.get(name="viewer"))
    client.force_login(user)
    found = statuses(client, pages)
    refused = {"add/", "delete/", "/accesstoken/", "/auth/", "/transfer/"}
    for page, status in found.items():
        if any(part in page for part in refused):
            assert status == 403, (page, status)
        else:
            assert status in {200, POST_ONLY}, (page, status)


def test_who_has_not_logged_in_is_asked_to(client: Client, pages: list[str]) -> None:
    for page in pages:
        response = client.get(page)
        assert response.status_code == 302 and "/admin/login/" in response["location"], page


@pytest.mark.parametrize(
    "path",
    [
        "/admin/?range=%00",
        f"{HISTORY}?q=%00",
        f"{HISTORY}?q=%F0%9F%A6%86",
        f"{HISTORY}?session=%00",
        f"{HISTORY}?provider=%00&model=%00&token=%00",
        f"{HISTORY}?since=99999999999-99999999999",
        f"{HISTORY}?since=0-1",
        f"{HISTORY}?outcome=%00&kind=%00&fell_back=%00",
        f"{HISTORY}export/?provider=%00",
        f"{HISTORY}99999999999999999999999/change/",
        f"{HISTORY}x/change/",
        "/admin/providers/provider/add/?preset=%00",
        "/admin/providers/provider/99999/change/",
        "/admin/providers/provider/?o=x",
        "/admin/connect/?login=%00",
        "/nothing/here",
    ],
)
def test_no_address_breaks_a_page(admin_client: Client, pages: list[str], path: str) -> None:
    assert admin_client.get(path, follow=True).status_code in {200, 400, 404}


def test_what_is_not_there_has_a_page_that_leads_back(client: Client) -> None:
    response = client.get("/nothing/here")
    assert response.status_code == 404
    html = response.content.decode()
    assert "There is nothing at this address." in html and 'href="/admin/"' in html


@pytest.mark.parametrize("name", ["400.html", "403.html", "403_csrf.html", "500.html"])
def test_the_pages_of_errors_need_no_request_and_no_database(name: str) -> None:
    from django.template.loader import get_template

    with CaptureQueriesContext(connection) as queries:
        html = get_template(name).render()
    assert len(queries) == 0
    assert 'href="/admin/"' in html and "<h1>" in html


@pytest.mark.parametrize("page", ["learnedfact", "accesstoken", "provider"])
def test_a_list_of_a_hundred_takes_as_many_queries_as_one_of_two(
    admin_client: Client, page: str
) -> None:
    def fill(numbers: range) -> None:
        for number in numbers:
            provider = Provider.objects.create(
                name=f"p{number}", position=number, base_url="https://h", api_key="k"
            )
            LearnedFact.objects.create(
                provider=provider, model="m", key="k", value=1, repair="r", expires=time.time()
            )
            AccessToken.issue(f"note {number}")

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert admin_client.get(f"/admin/providers/{page}/").status_code == 200
        return len(captured)

    fill(range(1, 3))
    few = queries()
    fill(range(3, 101))
    assert queries() == few
