"""The page of one call, the conversation it belongs to, and the history as a file."""

from __future__ import annotations

import csv
import io
import time
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.http import StreamingHttpResponse
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from providers.models import Provider
from proxy.admin import csv_export
from proxy.admin.csv_export import csv_lines, harmless
from proxy.history.rows import write_rows
from proxy.models import Attempt, RequestLog
from tests.calls import finished

pytestmark = pytest.mark.django_db

LIST = "/admin/proxy/requestlog/"


def written(*tried: tuple[str, int | None], **fields: Any) -> RequestLog:
    write_rows([finished(*tried, **{"time": time.time(), "model": "claude-opus-4-8", **fields})])
    row = RequestLog.objects.first()
    assert row
    return row


def page(client: Client, call: RequestLog) -> tuple[Any, str]:
    response = client.get(f"{LIST}{call.pk}/change/")
    assert response.status_code == 200
    return response.context["page"], response.content.decode()


# --- one call ---------------------------------------------------------------


def test_the_attempts_stand_in_a_waterfall(admin_client: Client) -> None:
    record = finished(("a", None), ("b", 429), ("c", 200), time=time.time())
    for attempt, (start, took) in zip(record.attempts, [(0, 0), (0, 1), (1, 3)], strict=True):
        attempt.started, attempt.duration = start, took
    record.duration, record.first_byte = 10, 4
    write_rows([record])
    shown, html = page(admin_client, RequestLog.objects.get())
    assert [(step.bar.x, step.bar.width) for step in shown.steps] == [
        ("0.00", "0.50"),
        ("0.00", "10.00"),
        ("10.00", "30.00"),
    ]
    assert [step.style for step in shown.steps] == ["skipped", "bad", "good"]
    answering = shown.answering
    assert (answering.bar.x, answering.bar.width) == ("40.00", "60.00")
    assert (answering.begins, answering.took) == ("4.0 s", "6.0 s")
    assert shown.summary == "c answered, after a, b had not."
    assert "skipped" in html and "10.0 s" in html


def test_a_call_that_nobody_answered_or_that_asked_nobody_has_a_page(admin_client: Client) -> None:
    shown, _html = page(admin_client, written(("a", 500), outcome="failed"))
    assert "Nobody answered" in shown.summary
    _shown, html = page(admin_client, written(outcome="failed", provider=""))
    assert "No provider was asked" in html


def test_repairs_headers_and_hashes_of_an_attempt_are_shown(admin_client: Client) -> None:
    call = written(("a", 200))
    RequestLog.objects.update(body_hash="0123456789abcdef")
    changes = [{"path": "messages.3.content.0", "op": "removed", "bytes": 1804}]
    Attempt.objects.update(
        repairs=[{"name": "thinking_signature", "changes": changes}],
        headers={"request-id": "req_upstream", "retry-after": "<b>5</b>"},
        body_hash="fedcba9876543210",
    )
    _shown, html = page(admin_client, call)
    for text in ("thinking_signature", "messages.3.content.0", "removed", "1804", "req_upstream"):
        assert text in html, text
    assert "0123456789abcdef → fedcba9876543210" in html
    assert "<b>5" not in html
    Attempt.objects.update(unmodified=True, body_hash="0123456789abcdef")
    assert "Relayed unmodified" in page(admin_client, call)[1]


@pytest.mark.parametrize("repairs", [None, "x", [1, "y"], [{"changes": None}], {"a": 1}])
def test_repairs_of_another_shape_do_no_harm(admin_client: Client, repairs: Any) -> None:
    call = written(("a", 200))
    Attempt.objects.update(repairs=repairs if repairs is not None else [])
    page(admin_client, call)


def test_the_call_can_be_repeated_from_a_command_line(admin_client: Client) -> None:
    headers: Any = {"X-Title": "secret-title"}
    Provider.objects.create(
        name="b", position=1, base_url="https://host/v1?key=in-the-query", format="openai",
        api_key="sk-secret-of-b", auth_header="Authorization",
        extra_headers=headers,
    )  # fmt: skip
    call = written(("gone", 429), ("b", 200), stream=True)
    shown, html = page(admin_client, call)
    assert "http://testserver/v1/messages" in shown.curl and "-d @body.json" in shown.curl
    assert "x-ccf-api-key: $CCF_TOKEN" in shown.curl
    [gone, second] = shown.steps
    assert gone.curl == ""
    assert "https://host/v1/chat/completions?..." in second.curl
    assert "Authorization: Bearer $PROVIDER_KEY" in second.curl
    for secret in ("in-the-query", "sk-secret-of-b", "secret-title"):
        assert secret not in html


def test_a_url_cannot_break_out_of_the_command_line(admin_client: Client) -> None:
    Provider.objects.create(name="b", base_url="https://h/$(reboot);'", api_key="k")
    [step] = page(admin_client, written(("b", 200)))[0].steps
    assert """'https://h/$(reboot);'"'"'/v1/messages'""" in step.curl


def test_a_viewer_sees_the_call_and_who_may_not_see_providers_not_how_to_call_them(
    client: Client,
) -> None:
    Provider.objects.create(name="b", base_url="https://internal.example", api_key="k")
    call = written(("b", 200))
    user = User.objects.create_user("viewer", is_staff=True)
    group = Group.objects.get(name="viewer")
    user.groups.add(group)
    client.force_login(user)
    assert "internal.example" in page(client, call)[1]
    group.permissions.remove(*group.permissions.filter(codename="view_provider"))
    client.force_login(User.objects.get(pk=user.pk))
    assert "internal.example" not in page(client, call)[1]


# --- a conversation ---------------------------------------------------------


def test_a_conversation_is_read_from_its_beginning(admin_client: Client) -> None:
    for number in range(3):
        written(("a", 200), request_id=f"req_{number}", session_id="s-1")
        written(("a", 200), request_id="req_other", session_id="s-10")
    response = admin_client.get(f"{LIST}?session=s-1")
    listed = [call.request_id for call in response.context["cl"].result_list]
    assert listed == ["req_0", "req_1", "req_2"]
    first = response.context["cl"].result_list[0]
    assert f"{LIST}?session=s-1" in page(admin_client, first)[1]


# --- as a file --------------------------------------------------------------


def exported(client: Client, query: str = "") -> list[dict[str, str]]:
    response = client.get(f"{LIST}export/{query}")
    assert response.status_code == 200
    assert isinstance(response, StreamingHttpResponse)
    text = b"".join(response).decode()
    return list(csv.DictReader(io.StringIO(text)))


def test_the_current_filter_is_exported(admin_client: Client) -> None:
    written(("a", 429), ("b", 200), request_id="req_1")
    written(("a", 200), request_id="req_2")
    [second, first] = exported(admin_client)
    assert (second["request_id"], second["trail"]) == ("req_2", "a=200")
    assert (first["request_id"], first["trail"]) == ("req_1", "a=429 -> b=200")
    assert (first["fell_back"], first["cache_read_tokens"]) == ("True", "300")
    assert [row["request_id"] for row in exported(admin_client, "?provider=b")] == ["req_1"]
    assert [row["request_id"] for row in exported(admin_client, "?q=req_2")] == ["req_2"]
    list_page = admin_client.get(f"{LIST}?provider=b&since=24")
    assert list_page.context["export_url"] == f"{LIST}export/?provider=b&since=24"


def test_filters_that_are_none_are_refused(admin_client: Client) -> None:
    for query in ("?nonsense=1", "?token__password=x"):
        assert admin_client.get(f"{LIST}export/{query}").status_code == 400, query


def test_the_export_reads_chunk_by_chunk(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_export, "CHUNK", 10)
    for number in range(25):
        written(("a", 200), request_id=f"req_{number}")
    lines = csv_lines(RequestLog.objects.all())
    assert next(lines).startswith("time,request_id")
    with CaptureQueriesContext(connection) as captured:
        assert next(lines).count("\r\n") == 10
    assert len(captured) == 2
    found = [row["request_id"] for row in exported(admin_client)]
    assert found == [f"req_{number}" for number in range(24, -1, -1)]


@pytest.mark.django_db(transaction=True)
async def test_under_asgi_the_export_is_streamed_too(async_client: AsyncClient) -> None:
    from asgiref.sync import sync_to_async

    def prepare() -> None:
        async_client.force_login(User.objects.create_superuser("a"))
        written(("a", 200), request_id="req_1")

    await sync_to_async(prepare)()
    response = await async_client.get(f"{LIST}export/")
    assert response.is_async  # type: ignore[attr-defined]
    chunks = [chunk async for chunk in response]  # type: ignore[attr-defined]
    assert b"req_1" in b"".join(chunks) and len(chunks) == 2


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_is_a_formula(admin_client: Client, start: str) -> None:
    written((f"{start}p", 200), model=f"{start}cmd|' /C calc'!A0", session_id=f"{start}s")
    [row] = exported(admin_client)
    for column in ("model", "session_id", "provider", "trail"):
        assert row[column].startswith("'"), column


@given(st.text())
def test_a_harmless_text_stays_as_it_is(text: str) -> None:
    shown = harmless(text)
    assert shown.removeprefix("'") == text.removeprefix("'") or shown == "'" + text
    assert not shown.startswith(("=", "+", "-", "@", "\t", "\r"))


def test_a_viewer_may_export_and_somebody_else_may_not(client: Client) -> None:
    user = User.objects.create_user("viewer", is_staff=True)
    client.force_login(user)
    assert client.get(f"{LIST}export/").status_code == 403
    user.groups.add(Group.objects.get(name="viewer"))
    client.force_login(User.objects.get(pk=user.pk))
    assert exported(client) == []


@pytest.mark.parametrize(
    ("tried", "outcome", "said"),
    [
        ([("a", 200)], "answered", "a answered."),
        ([("a", 429), ("b", 200)], "broken", "b, asked after a: broken off, status 200."),
        ([("a", 400)], "refused", "a: refused, status 400."),
    ],
)
def test_the_summary_says_what_became_of_the_call(
    admin_client: Client, tried: list[Any], outcome: str, said: str
) -> None:
    record = finished(*tried, time=time.time(), outcome=outcome)
    record.status = tried[-1][1]
    write_rows([record])
    assert page(admin_client, RequestLog.objects.get())[0].summary == said
