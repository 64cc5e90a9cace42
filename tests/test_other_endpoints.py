"""Everything but messages: token counts, models, what only passes through, and greetings."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from providers.models import Provider
from tests.proxy import (
    WITH_DATABASE,
    body_of,
    chat,
    fallback,
    primary,
    running_proxy,
    until,
)
from tests.upstreams import (
    JSON_TYPE,
    FakeProvider,
    Step,
    Then,
    drop,
    hang,
    message,
    names,
    ok,
    refuse,
    reply,
    stream,
)

pytestmark = WITH_DATABASE

COUNT = "/v1/messages/count_tokens"
ANSWER = b'{ "input_tokens" : 83 }'


# --- count_tokens -------------------------------------------------------------


async def test_a_token_count_is_the_primarys() -> None:
    async with FakeProvider(message(ANSWER)) as up, running_proxy(primary(up)) as proxy:
        body = body_of(stream=False)
        answer = await proxy.call(body, target=COUNT + "?beta=true")
        assert (answer.status, answer.body) == (200, ANSWER)
        assert answer["x-ccf-attempts"] == "anthropic-primary=200"
        assert names(up.requests) == [f"POST {COUNT}?beta=true"]
        assert up.requests[0].body == body


async def test_a_token_count_under_a_doubled_v1_works() -> None:
    async with FakeProvider(message(ANSWER)) as up, running_proxy(primary(up)) as proxy:
        assert (await proxy.call(target="/v1" + COUNT)).body == ANSWER
        assert names(up.requests) == [f"POST {COUNT}"]


async def test_the_next_provider_counts_where_the_first_cannot() -> None:
    async with FakeProvider(refuse(529)) as up, FakeProvider(message(ANSWER)) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            answer = await proxy.call(target=COUNT)
            assert answer.body == ANSWER
            assert answer["x-ccf-attempts"] == "anthropic-primary=529,openrouter=200"


COUNTS_NOTHING: list[Step] = [
    refuse(404),
    refuse(405),
    refuse(501),
    refuse(401),
    refuse(429),
    refuse(500),
    drop(),
    hang(),
    reply(302, b"", [(b"location", b"/x")]),
    message(b"<html>Welcome</html>"),
    message(b'{"ok":true}'),
    message(b'{"input_tokens":"many"}'),
    message(b""),
]


async def test_where_nobody_counts_the_proxy_estimates() -> None:
    async with FakeProvider(ok()) as up:
        async with running_proxy(primary(up, first_byte_limit=0.5)) as proxy:
            for number, step in enumerate(COUNTS_NOTHING):
                up.script(step)
                answer = await proxy.call(body_of(stream=False), target=COUNT)
                assert answer.status == 200, number
                assert list(answer.json()) == ["input_tokens"]
                assert 1 <= answer.json()["input_tokens"] < 50
                assert answer["x-ccf-provider"] is None
            longer = body_of(stream=False, system="word " * 1000)
            more = (await proxy.call(longer, target=COUNT)).json()["input_tokens"]
            assert more > 500


async def test_a_token_count_needs_no_provider_at_all() -> None:
    async with running_proxy() as proxy:
        answer = await proxy.call(target=COUNT)
        assert (answer.status, answer["content-type"]) == (200, "application/json")


async def test_the_primarys_complaint_about_a_count_goes_back() -> None:
    async with FakeProvider(refuse(400, "messages: required", "invalid_request_error")) as up:
        async with FakeProvider(message(ANSWER)) as other:
            async with running_proxy(primary(up), fallback(other)) as proxy:
                answer = await proxy.call(target=COUNT)
                assert answer.status == 400
                assert answer.json()["error"]["message"] == "messages: required"
                assert other.requests == []


async def test_a_fallbacks_complaint_about_a_count_does_not() -> None:
    async with FakeProvider(refuse(400)) as other, running_proxy(fallback(other)) as proxy:
        assert (await proxy.call(target=COUNT)).status == 200


# --- models -------------------------------------------------------------------

MODELS = b'{"data":[{"type":"model","id":"claude-test"}],"has_more":false}'


@pytest.mark.parametrize(
    ("asked", "arrives"),
    [
        ("/v1/models?limit=1000", "/v1/models?limit=1000"),
        ("/v1/models/claude-test", "/v1/models/claude-test"),
        ("/v1/v1/models", "/v1/models"),
    ],
)
async def test_models_are_the_primarys(asked: str, arrives: str) -> None:
    async with FakeProvider(message(MODELS)) as up, FakeProvider(ok()) as other:
        async with running_proxy(chat(other), primary(up)) as proxy:
            answer = await proxy.call(method="GET", target=asked)
        assert (answer.status, answer.body) == (200, MODELS)
        assert names(up.requests) == [f"GET {arrives}"]
        assert up.requests[0].body == b""
        assert up.requests[0].values("content-length") == []


async def test_models_fall_over_and_else_the_error_is_heard() -> None:
    async with FakeProvider(drop()) as up, FakeProvider(message(MODELS)) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            answer = await proxy.call(method="GET", target="/v1/models")
            assert (answer.body, answer["x-ccf-provider"]) == (MODELS, "openrouter")
            other.script(message(b"<html>"))
            answer = await proxy.call(method="GET", target="/v1/models")
            assert answer.status == 502


async def test_an_unknown_model_is_the_primarys_to_say() -> None:
    async with FakeProvider(refuse(400, kind="invalid_request_error")) as up:
        async with FakeProvider(message(MODELS)) as other:
            async with running_proxy(primary(up), fallback(other)) as proxy:
                answer = await proxy.call(method="GET", target="/v1/models/x")
                assert (answer.status, other.requests) == (400, [])


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_our_bad_key_does_not_make_a_client_log_in_to_list_models(status: int) -> None:
    async with FakeProvider(refuse(status)) as other, running_proxy(fallback(other)) as proxy:
        assert (await proxy.call(method="GET", target="/v1/models")).status == 502


async def test_without_a_provider_there_are_no_models() -> None:
    async with running_proxy() as proxy:
        answer = await proxy.call(method="GET", target="/v1/models")
        assert (answer.status, answer.error_type) == (404, "not_found_error")


# --- anything else ------------------------------------------------------------


NEIGHBOURS = pytest.mark.parametrize("neighbour", [fallback, chat])
"""Providers of either format, beside the one that answers."""


@NEIGHBOURS
@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/v1/files?limit=2&after=%2Fx", None),
        ("POST", "/v1/messages/batches", b'{"requests":[]}'),
        ("DELETE", "/v1/files/file_1", None),
        ("PUT", "/v1/anything%20at/all//x", b"\x00\xff raw"),
        ("PATCH", "/api/oauth/profile", b"{}"),
        ("POST", "/api/claude_code/metrics", b"{}"),
    ],
)
async def test_any_other_endpoint_passes_unchanged_both_ways(
    method: str, target: str, body: bytes | None, neighbour: Callable[[FakeProvider], Provider]
) -> None:
    headers = [(b"content-type", b"application/x-thing"), (b"request-id", b"req_1")]
    async with FakeProvider(reply(207, b"\x00 raw \xff", headers)) as up:
        async with FakeProvider(ok()) as other:
            async with running_proxy(neighbour(other), primary(up)) as proxy:
                answer = await proxy.call(
                    body, method=method, target=target, extra=[("x-unknown", "kept")]
                )
                assert (answer.status, answer.body) == (207, b"\x00 raw \xff")
                assert answer["content-type"] == "application/x-thing"
                assert answer["request-id"] == "req_1"
                assert names(up.requests) == [f"{method} {target}"]
                assert up.requests[0].body == (body or b"")
                assert up.requests[0].values("x-unknown") == [b"kept"]
                assert up.requests[0].values("x-ccf-api-key") == []
                assert other.requests == []


async def test_a_mapping_changes_nothing_at_another_endpoint() -> None:
    mappings = {"anthropic-primary": {"*": "mapped"}}
    async with FakeProvider(message()) as up:
        async with running_proxy(primary(up), mappings=mappings) as proxy:
            for target in ("/v1/messages/batches", "/v1/complete"):
                await proxy.call(b'{"model":"m"}', target=target)
                assert up.requests[-1].body == b'{"model":"m"}'


async def test_a_doubled_v1_is_taken_for_one() -> None:
    async with FakeProvider(message()) as up, running_proxy(primary(up)) as proxy:
        await proxy.call(method="GET", target="/v1/v1/files/v1/v1?x=/v1/v1")
        assert names(up.requests) == ["GET /v1/files/v1/v1?x=/v1/v1"]


async def test_any_status_of_another_endpoint_passes() -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        for status in (302, 400, 401, 404, 429, 500, 529):
            up.script(reply(status, b"as it is"))
            answer = await proxy.call(method="GET", target="/v1/files")
            assert (answer.status, answer.body) == (status, b"as it is")


@pytest.mark.parametrize("status", [600, 999])
async def test_a_status_that_no_server_can_send_is_not_passed_on(status: int) -> None:
    async with FakeProvider(reply(status, b"odd")) as up, running_proxy(primary(up)) as proxy:
        for method, target in (("GET", "/v1/files"), ("POST", COUNT), ("POST", "/v1/messages")):
            answer = await proxy.call(method=method, target=target)
            assert answer.status == (200 if target == COUNT else 502)
            assert f"status {status}".encode() in answer.body or target == COUNT
        assert len(await proxy.log(3)) == 3
        await until(lambda: not proxy.runtime.upstream.open_exchanges, "the exchanges are over")


@pytest.mark.parametrize("target", ["/v1/models/..", "/v1/a/../../x", "/v1/%2e%2E/x", "/v1/./x"])
async def test_a_path_cannot_lead_out_of_the_base_url(target: str) -> None:
    async with FakeProvider(ok()) as up:
        async with running_proxy(primary(up.url + "/gateway")) as proxy:
            answer = await proxy.call(method="GET", target=target)
            assert (answer.status, answer.error_type) == (404, "not_found_error")
            assert up.requests == []


@pytest.mark.parametrize("method", ["DELETE", "POST", "PUT"])
async def test_the_proxys_own_keys_only_read_models(method: str) -> None:
    async with FakeProvider(ok()) as other, FakeProvider(reply(200, b"{}")) as up:
        async with running_proxy(fallback(other), primary(up)) as proxy:
            await proxy.call(b"{}", method=method, target="/v1/models/x")
            assert other.requests == []
            assert names(up.requests) == [f"{method} /v1/models/x"]


async def test_another_endpoint_streams() -> None:
    parts = [b"one", b"two"]
    async with FakeProvider(stream(*parts, Then.HANG)) as up, running_proxy(primary(up)) as proxy:
        async with proxy.open(method="GET", target="/v1/files/x/content") as client:
            await client.head()
            data = b""
            while len(data) < len(b"onetwo"):
                data += await client.chunk()
            assert data == b"onetwo"
            assert up.open


async def test_another_endpoint_that_is_cut_off_is_aborted() -> None:
    async with FakeProvider(stream(b"one", Then.CUT)) as up, running_proxy(primary(up)) as proxy:
        answer = await proxy.call(method="GET", target="/v1/files/x/content")
        assert (answer.body, answer.aborted) == (b"one", True)
        (call,) = await proxy.log(1)
        assert call.outcome == "broken"


async def test_head_passes_too() -> None:
    async with FakeProvider(reply(200, b"{}")) as up, running_proxy(primary(up)) as proxy:
        answer = await proxy.call(method="HEAD", target="/v1/files/x")
        assert (answer.status, answer.body, answer.aborted) == (200, b"", False)
        assert names(up.requests) == ["HEAD /v1/files/x"]


async def test_a_primary_that_is_gone_is_said() -> None:
    async with FakeProvider(drop()) as up, running_proxy(primary(up)) as proxy:
        answer = await proxy.call(method="GET", target="/v1/files")
        assert (answer.status, answer.error_type) == (502, "api_error")


@pytest.mark.parametrize("target", ["/v1/files", "/api/oauth/profile", "/v1/"])
async def test_without_a_primary_any_other_endpoint_is_not_found(target: str) -> None:
    async with FakeProvider(ok()) as other, running_proxy(fallback(other)) as proxy:
        answer = await proxy.call(method="GET", target=target)
        assert (answer.status, answer.error_type) == (404, "not_found_error")
        assert answer.json()["request_id"] == answer["ccr-request-id"]
        assert other.requests == []


async def test_other_methods_than_post_on_messages_are_not_found() -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        for method in ("GET", "PUT", "DELETE"):
            for target in ("/v1/messages", COUNT):
                answer = await proxy.call(method=method, target=target)
                assert (answer.status, answer.error_type) == (404, "not_found_error")
        assert up.requests == []


# --- what is answered here, without a token -----------------------------------


@pytest.mark.parametrize(
    ("method", "target", "status", "body"),
    [
        ("HEAD", "/", 200, b""),
        ("HEAD", "/api/hello", 200, b""),
        ("GET", "/api/hello", 200, b"{}"),
        ("POST", "/api/event_logging/batch", 200, b"{}"),
        ("GET", "/healthz", 200, b'{"status":"ok"}'),
    ],
)
async def test_greetings_are_answered_without_a_token_and_without_a_provider(
    method: str, target: str, status: int, body: bytes
) -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        answer = await proxy.call(
            b'{"events":[]}' if method == "POST" else None,
            method=method,
            target=target,
            headers=[("user-agent", "Bun/1.2")],
        )
        assert (answer.status, answer.body) == (status, body)
        assert answer["content-type"] == JSON_TYPE[1].decode()
        assert up.requests == []
        await proxy.stop()
        assert await proxy.log(0) == []


async def test_a_browser_is_led_to_the_admin() -> None:
    async with running_proxy() as proxy:
        answer = await proxy.call(method="GET", target="/", headers=[("accept", "text/html")])
        assert (answer.status, answer["location"]) == (302, "/admin/")
