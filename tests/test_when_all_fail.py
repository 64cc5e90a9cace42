"""What the client hears when nobody can answer."""

from __future__ import annotations

import json

import pytest

from tests.proxy import PROVIDER_KEY, WITH_DATABASE, body_of, fallback, primary, running_proxy
from tests.upstreams import (
    JSON_TYPE,
    FakeProvider,
    Step,
    drop,
    hang,
    message,
    refuse,
    reply,
)

pytestmark = WITH_DATABASE

LIMIT_BODY = b'{ "type":"error",  "error":{"type":"rate_limit_error","message":"5-hour limit"}}\n'
LIMIT_HEADERS = [
    JSON_TYPE,
    (b"request-id", b"req_primary"),
    (b"retry-after", b"3600"),
    (b"anthropic-ratelimit-unified-status", b"rejected"),
    (b"anthropic-ratelimit-unified-reset", b"1790000000"),
    (b"x-should-retry", b"true"),
]
LIMIT = reply(429, LIMIT_BODY, LIMIT_HEADERS)


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(
    "complaint",
    [
        refuse(400, "unknown field `context_management`", "invalid_request_error"),
        refuse(400, "prompt is too long: 3 tokens > 2 maximum", "invalid_request_error"),
        refuse(401, "bad key", "authentication_error"),
        refuse(404, "no such model", "not_found_error"),
    ],
    ids=["complaint", "overflow", "bad key", "no model"],
)
async def test_the_primarys_limit_is_heard_byte_for_byte(complaint: Step, streaming: bool) -> None:
    async with FakeProvider(LIMIT) as up, FakeProvider(complaint) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            answer = await proxy.call(body_of(streaming))
            assert (answer.status, answer.body) == (429, LIMIT_BODY)
            for name, value in LIMIT_HEADERS:
                assert answer[name.decode()] == value.decode()
            assert answer["x-ccf-provider"] is None
            assert (answer["x-ccf-attempts"] or "").startswith("anthropic-primary=429,openrouter=")


async def test_a_context_overflow_that_all_report_is_heard() -> None:
    text = "prompt is too long: 210000 tokens > 200000 maximum"
    async with FakeProvider(refuse(400, text)) as first, FakeProvider(refuse(400, text)) as second:
        async with running_proxy(fallback(first, "first"), fallback(second, "second")) as proxy:
            answer = await proxy.call()
            assert (answer.status, answer.json()["error"]["message"]) == (400, text)


async def test_the_last_failure_of_a_provider_is_heard_before_the_first_complaint() -> None:
    async with FakeProvider(refuse(404, "no model")) as first, FakeProvider(refuse(503)) as second:
        async with running_proxy(fallback(first, "first"), fallback(second, "second")) as proxy:
            assert (await proxy.call()).status == 503


async def test_the_last_complaint_is_heard_where_there_is_nothing_else() -> None:
    async with FakeProvider(refuse(422)) as first, FakeProvider(refuse(404)) as second:
        async with running_proxy(fallback(first, "first"), fallback(second, "second")) as proxy:
            assert (await proxy.call()).status == 404


@pytest.mark.parametrize("status", [401, 402, 403])
@pytest.mark.parametrize("streaming", [True, False])
async def test_our_bad_key_never_makes_a_client_log_in_again(status: int, streaming: bool) -> None:
    step = refuse(status, f"invalid x-api-key {PROVIDER_KEY}", "authentication_error")
    async with FakeProvider(step) as other, running_proxy(fallback(other)) as proxy:
        answer = await proxy.call(body_of(streaming))
        assert answer.status == 502
        assert answer["x-should-retry"] == "false"
        assert answer.error_type == "api_error"
        assert "openrouter rejected" in answer.json()["error"]["message"]
        assert answer.json()["request_id"] == answer["ccr-request-id"]
        assert PROVIDER_KEY.encode() not in answer.body


async def test_the_clients_own_bad_credentials_are_its_to_hear() -> None:
    step = refuse(401, "OAuth token has expired", "authentication_error")
    async with FakeProvider(step) as up, FakeProvider(refuse(401)) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            answer = await proxy.call()
            assert answer.status == 401
            assert answer.json()["error"]["message"] == "OAuth token has expired"


@pytest.mark.parametrize(
    ("step", "status", "kind"),
    [
        (drop(), 502, "api_error"),
        (hang(), 504, "timeout_error"),
        (message(b"<html>"), 502, "api_error"),
        (reply(302, b"", [(b"location", b"http://elsewhere.test/")]), 502, "api_error"),
    ],
    ids=["network", "time-out", "no answer", "redirect"],
)
async def test_a_failure_without_words_is_put_in_ours(step: Step, status: int, kind: str) -> None:
    async with FakeProvider(step) as up:
        async with running_proxy(primary(up, first_byte_limit=0.2)) as proxy:
            answer = await proxy.call(body_of(stream=False))
            assert (answer.status, answer.error_type) == (status, kind)
            assert answer["content-type"] == "application/json"
            assert answer["retry-after"] == "1"
            assert answer["location"] is None
            assert "anthropic-primary" in answer.json()["error"]["message"]
            assert answer.json()["request_id"] == answer["ccr-request-id"]


async def test_an_error_inside_a_200_is_heard_with_the_status_it_deserves() -> None:
    inside = {
        "overloaded_error": 529,
        "rate_limit_error": 429,
        "api_error": 500,
        "timeout_error": 504,
        "invalid_request_error": 400,
        "authentication_error": 401,
        "not_found_error": 404,
        "request_too_large": 413,
        "invented_error": 500,
    }
    async with FakeProvider(drop()) as up, running_proxy(primary(up)) as proxy:
        for kind, status in inside.items():
            body = {"type": "error", "error": {"type": kind, "message": "m"}, "request_id": "r"}
            up.script(message(json.dumps(body).encode()))
            answer = await proxy.call(body_of(stream=False))
            assert (answer.status, answer.json()) == (status, body)


async def test_no_further_attempt_begins_when_the_budget_is_spent() -> None:
    async with FakeProvider(hang()) as up, FakeProvider(message()) as other:
        async with running_proxy(
            primary(up), fallback(other), settings={"call_budget": 1}
        ) as proxy:
            answer = await proxy.call()
            assert (answer.status, answer.error_type) == (504, "timeout_error")
            assert other.requests == []


async def test_the_history_tells_the_error_that_the_client_has_heard() -> None:
    complaint = refuse(400, "prompt is too long: 3 tokens > 2 maximum", "invalid_request_error")
    async with FakeProvider(refuse(529, "Overloaded")) as up, FakeProvider(complaint) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            assert (await proxy.call()).status == 529
            [row] = await proxy.log(1)
            assert (row.status, row.error) == (529, "Overloaded")


async def test_an_error_without_words_borrows_none_from_another_provider() -> None:
    async with FakeProvider(refuse(529, "Overloaded")) as up, FakeProvider(reply(500)) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            assert (await proxy.call()).status == 500
            [row] = await proxy.log(1)
            assert (row.status, row.error) == (500, "")
