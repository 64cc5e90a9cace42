"""Test connection: one tiny call per model, on the way of every call, leaving no trace."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.test import Client

from providers.models import ModelMapping, Provider, ProviderHealth
from providers.routing import Credentials, ProviderSpec, WireFormat
from proxy.connection_test import MODELS, ModelResult, credential_headers, test_providers
from proxy.models import RequestLog
from tests.upstreams import (
    BLOCK,
    DELTA,
    HELLO,
    MESSAGE,
    START,
    STOP,
    FakeProvider,
    drop,
    error_event,
    event,
    hang,
    message,
    refuse,
    reply,
    stream,
)

KEY = "sk-own-key-of-the-provider-0001"
CLIENT_KEY = "sk-ant-api03-the-clients-own-key"
TOOL = event(
    "content_block_start",
    index=0,
    content_block={"type": "tool_use", "id": "t", "name": "report", "input": {}},
)
CALLED = stream(START, TOOL, DELTA, STOP)


def spec(up: FakeProvider, **fields: Any) -> ProviderSpec:
    return ProviderSpec(1, "p", up.url, **{"api_key": KEY, **fields})


async def test_of(
    up: FakeProvider, credential: str = "", seconds: float = 5, **fields: Any
) -> list[ModelResult]:
    case = (spec(up, **fields), credential)
    [results] = await asyncio.to_thread(test_providers, [case], MODELS, seconds)
    return results


test_of.__test__ = False  # type: ignore[attr-defined]


async def test_each_family_is_asked_once_with_a_stream_and_a_tool() -> None:
    async with FakeProvider(CALLED) as up:
        results = await test_of(up, exact_mappings={"claude-sonnet-5": "mapped"})
    assert [result.model for result in results] == list(MODELS)
    assert [result.sent for result in results] == [MODELS[0], "mapped", MODELS[2]]
    for result in results:
        assert (result.ok, result.status, result.error, result.advice) == (True, 200, "", "")
        assert result.streamed and result.called_tool
    bodies = [json.loads(request.body) for request in up.requests]
    assert {body["model"] for body in bodies} == {result.sent for result in results}
    for body in bodies:
        assert body["stream"] is True and len(body["tools"]) == 1 and body["max_tokens"] <= 300
    assert all(request.values("x-api-key") == [KEY.encode()] for request in up.requests)


async def test_an_openai_format_provider_is_asked_in_its_format() -> None:
    chunk = {
        "id": "c",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "delta": {
                    "tool_calls": [
                        {
                            "index": 0,
                            "id": "t",
                            "type": "function",
                            "function": {"name": "report", "arguments": '{"ok":true}'},
                        }
                    ]
                },
                "finish_reason": "tool_calls",
            }
        ],
    }
    data = b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n"
    async with FakeProvider(stream(data)) as up:
        results = await test_of(up, format=WireFormat.OPENAI, auth_header="authorization")
    assert all(result.ok and result.called_tool for result in results), results
    assert {request.target for request in up.requests} == {b"/v1/chat/completions"}


async def test_an_answer_without_the_tool_works_and_one_without_the_stream_does_not() -> None:
    async with FakeProvider(stream(START, BLOCK, HELLO, DELTA, STOP)) as up:
        [first, *_rest] = await test_of(up)
    assert first.ok and not first.called_tool and "did not call the tool" in first.advice
    async with FakeProvider(message(MESSAGE)) as up:
        [first, *_rest] = await test_of(up)
    assert not first.ok and "where a stream was asked for" in first.error


@pytest.mark.parametrize(
    ("step", "status", "error", "advice"),
    [
        (refuse(401, "invalid key"), 401, "invalid key", "Check the key"),
        (refuse(403, "no"), 403, "no", "Check the key"),
        (refuse(404, "model: claude-opus-4-8 not found"), 404, "", "mapping"),
        (refuse(400, "The model `x` does not exist"), 400, "", "mapping"),
        (refuse(400, "x is not a valid model ID"), 400, "", "mapping"),
        (refuse(400, "Unknown Model, please check"), 400, "", "mapping"),
        (refuse(404, "No endpoints found for x."), 404, "", "mapping"),
        (refuse(404, "page not found"), 404, "", "base URL"),
        (refuse(429, "slow down"), 429, "slow down", ""),
        (refuse(529, "Overloaded"), 529, "Overloaded", ""),
        (reply(200, b"<html>", [(b"content-type", b"text/html")]), None, "", "base URL"),
        (drop(), None, "", "base URL"),
        (stream(START, error_event("overloaded_error", "busy")), 529, "busy", ""),
        (stream(START, TOOL), 200, "cut off", ""),
    ],
)
async def test_a_failure_comes_with_its_status_its_words_and_advice(
    step: Any, status: int | None, error: str, advice: str
) -> None:
    async with FakeProvider(step) as up:
        [first, *_rest] = await test_of(up)
    assert not first.ok
    assert first.status == status
    assert error in first.error and first.error
    assert advice in first.advice and bool(advice) == bool(first.advice)


async def test_a_model_that_is_not_found_is_named_in_the_advice() -> None:
    async with FakeProvider(refuse(404, "model not found")) as up:
        [first, *_rest] = await test_of(up, exact_mappings={MODELS[0]: "wrong-name"})
    assert MODELS[0] in first.advice and "wrong-name" in first.advice


async def test_a_provider_that_hangs_is_given_up_in_time() -> None:
    async with FakeProvider(hang()) as up:
        async with asyncio.timeout(3):
            results = await test_of(up, seconds=0.2)
    assert all("no complete answer within 0.2 s" in result.error for result in results)


async def test_no_secret_is_quoted() -> None:
    async with FakeProvider(refuse(401, f"bad key {KEY} or {CLIENT_KEY}")) as up:
        results = await test_of(up)
        results += await test_of(up, CLIENT_KEY, api_key="", credentials=Credentials.CLIENT)
    assert not any(KEY in result.error or CLIENT_KEY in result.error for result in results)


@pytest.mark.parametrize(
    ("credential", "headers"),
    [
        ("", {}),
        (CLIENT_KEY, {b"x-api-key": CLIENT_KEY.encode()}),
        (
            " sk-ant-oat01-x ",
            {b"authorization": b"Bearer sk-ant-oat01-x", b"anthropic-beta": b"oauth-2025-04-20"},
        ),
        ("Bearer abc", {b"authorization": b"Bearer abc"}),
    ],
)
def test_a_credential_goes_into_its_header(credential: str, headers: dict[bytes, bytes]) -> None:
    assert dict(credential_headers(credential)) == headers


async def test_the_clients_credential_goes_to_who_is_called_with_it() -> None:
    async with FakeProvider(CALLED) as up:
        await test_of(up, CLIENT_KEY, api_key="", credentials=Credentials.CLIENT)
    assert up.requests[0].values("x-api-key") == [CLIENT_KEY.encode()]


# --- in the admin -----------------------------------------------------------


def form(up: FakeProvider, **changes: Any) -> dict[str, Any]:
    return {
        "name": "",
        "enabled": "on",
        "base_url": up.url,
        "format": "anthropic",
        "credentials": "own",
        "api_key": KEY,
        "auth_header": "x-api-key",
        "extra_headers": "{}",
        "on_client_401": "next",
        "retries": "0",
        "connect_limit": "10",
        "idle_limit": "120",
        "first_byte_stream_limit": "120",
        "first_byte_limit": "600",
        "profile": "{}",
        "mappings-TOTAL_FORMS": "1",
        "mappings-INITIAL_FORMS": "0",
        "mappings-0-source": "claude-opus-*",
        "mappings-0-target": "big-one",
        **changes,
    }


@sync_to_async
def posted(client: Client, url: str, data: dict[str, Any], **headers: str) -> Any:
    return client.post(url, data, headers=headers)


@sync_to_async
def stored(**fields: Any) -> Provider:
    row = Provider.objects.create(**{"name": "stored", "position": 1, "api_key": KEY, **fields})
    ModelMapping.objects.create(provider=row, source="*", target="from-the-database")
    return row


@sync_to_async
def traces() -> tuple[int, int]:
    return RequestLog.objects.count(), ProviderHealth.objects.count()


@pytest.fixture
def operator(client: Client, db: None) -> Client:
    client.force_login(User.objects.create_superuser("operator"))
    return client


@pytest.mark.django_db
async def test_what_is_in_the_form_is_tested_before_it_is_saved(operator: Client) -> None:
    async with FakeProvider(CALLED) as up:
        response = await posted(operator, "/admin/test/", form(up))
    html = response.content.decode()
    assert html.count("works") == 3 and "big-one" in html
    assert "<html" in html and KEY not in html
    assert up.requests[0].values("x-api-key") == [KEY.encode()]
    assert await sync_to_async(Provider.objects.count)() == 1, "it was saved"
    assert await traces() == (0, 0)


@pytest.mark.django_db
async def test_our_script_gets_the_results_without_the_page(operator: Client) -> None:
    async with FakeProvider(CALLED) as up:
        response = await posted(operator, "/admin/test/", form(up), **{"x-ccf-part": "1"})
    html = response.content.decode()
    assert "works" in html and "<html" not in html


@pytest.mark.django_db
async def test_an_empty_key_and_masked_headers_mean_the_stored_ones(operator: Client) -> None:
    async with FakeProvider(CALLED) as up:
        row = await stored(base_url="https://elsewhere", extra_headers={"X-Secret": "stored-value"})
        data = form(up, api_key="", extra_headers='{"X-Secret": "••••••"}', name="renamed")
        response = await posted(operator, f"/admin/test/{row.pk}/", data)
    assert response.content.decode().count("works") == 3
    assert up.requests[0].values("x-api-key") == [KEY.encode()]
    assert up.requests[0].values("x-secret") == [b"stored-value"]
    # Its mappings are those of the form, not those that are stored.
    sent = {json.loads(request.body)["model"] for request in up.requests}
    assert sent == {"big-one", *MODELS[1:]}
    await sync_to_async(row.refresh_from_db)()
    assert (row.name, row.base_url) == ("stored", "https://elsewhere")


@pytest.mark.django_db
async def test_a_form_with_errors_is_not_tested(operator: Client) -> None:
    async with FakeProvider(CALLED) as up:
        data = form(up, base_url="ftp://x", api_key="")
        html = (await posted(operator, "/admin/test/", data)).content.decode()
    assert "has to begin with https" in html and "needs a key" in html
    assert not up.requests


@pytest.mark.django_db
async def test_a_provider_called_with_the_clients_credentials_needs_one(operator: Client) -> None:
    async with FakeProvider(CALLED) as up:
        data = form(up, credentials="client", api_key="")
        html = (await posted(operator, "/admin/test/", data)).content.decode()
        assert "own credentials" in html and not up.requests
        data["test_credential"] = CLIENT_KEY
        html = (await posted(operator, "/admin/test/", data)).content.decode()
    assert html.count("works") == 3 and CLIENT_KEY not in html
    assert up.requests[0].values("x-api-key") == [CLIENT_KEY.encode()]


@pytest.mark.django_db
async def test_providers_are_tested_from_the_list(operator: Client) -> None:
    async with FakeProvider(CALLED) as up, FakeProvider(refuse(401, "<b>no</b>")) as other:
        rows = [await stored(base_url=up.url), await stored(name="second", base_url=other.url)]
        data: dict[str, Any] = {"action": "test_connection"}
        data["_selected_action"] = [1, *(row.pk for row in rows)]
        html = (await posted(operator, "/admin/providers/provider/", data)).content.decode()
        assert html.count(">works<") == 3 and html.count(">fails<") == 3
        assert "from-the-database" in html and "<b>no" not in html
        # The primary is called with a client's credentials: they can be given for this test.
        assert 'name="test_credential"' in html
        data["test_credential"] = CLIENT_KEY
        primary = await sync_to_async(Provider.objects.get)(pk=1)
        primary.base_url = up.url
        await sync_to_async(primary.save)()
        html = (await posted(operator, "/admin/providers/provider/", data)).content.decode()
        assert html.count(">works<") == 6
    sent = [r.values("x-api-key") for r in up.requests]
    assert sent.count([CLIENT_KEY.encode()]) == 3
    assert all(r.values("x-api-key") == [KEY.encode()] for r in other.requests)
    messages = await sync_to_async(
        lambda: [e.get_change_message() for e in LogEntry.objects.filter(object_repr="second")]
    )()
    assert messages[0] == "Connection tested: 0 of 3 models answered."
    assert await traces() == (0, 0)


@pytest.mark.django_db
async def test_who_may_not_change_a_provider_may_not_test_it(client: Client) -> None:
    def log_in() -> None:
        user = User.objects.create_user("viewer", is_staff=True)
        user.groups.add(Group.objects.get(name="viewer"))
        client.force_login(user)

    await sync_to_async(log_in)()
    async with FakeProvider(CALLED) as up:
        for url in ("/admin/test/", "/admin/test/1/"):
            assert (await posted(client, url, form(up))).status_code == 403
    assert not up.requests
