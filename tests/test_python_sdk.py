"""Anthropic's own Python SDK talks through the proxy and notices nothing."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest

from tests.proxy import CLIENT_KEY, WITH_DATABASE, Proxy, fallback, primary, running_proxy
from tests.upstreams import (
    BLOCK,
    HELLO,
    START,
    FakeProvider,
    Then,
    drop,
    error_event,
    message,
    ok,
    refuse,
    stream,
)

pytestmark = WITH_DATABASE

ASK: dict[str, Any] = {
    "model": "claude-test",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Hi"}],
}


def client(proxy: Proxy, **credentials: str) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(
        base_url=proxy.url,
        default_headers={"x-ccf-api-key": proxy.token},
        max_retries=0,
        **credentials,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "credentials", [{"api_key": "sk-ant-api03-client"}, {"auth_token": CLIENT_KEY}]
)
async def test_it_creates_and_streams_with_either_kind_of_credentials(
    credentials: dict[str, str],
) -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        async with client(proxy, **credentials) as sdk:
            answer = await sdk.messages.create(**ASK)
            assert answer.content[0].text == "Hello world"
            assert (answer.usage.input_tokens, answer.usage.output_tokens) == (11, 44)
            async with sdk.messages.stream(**ASK) as streamed:
                assert "".join([text async for text in streamed.text_stream]) == "Hello world"
                assert (await streamed.get_final_message()).stop_reason == "end_turn"
        (value,) = credentials.values()
        for request in up.requests:
            sent = request.values("authorization") + request.values("x-api-key")
            assert [v.decode().removeprefix("Bearer ") for v in sent] == [value]
            assert request.values("x-ccf-api-key") == []
            assert request.values("accept-encoding") == [b"identity"]


@pytest.mark.parametrize("style", ["api_key", "auth_token"])
async def test_the_proxys_token_may_stand_in_for_the_key(style: str) -> None:
    async with FakeProvider(ok()) as other, running_proxy(fallback(other)) as proxy:
        options: dict[str, Any] = {style: proxy.token}
        async with anthropic.AsyncAnthropic(base_url=proxy.url, **options) as sdk:
            answer = await sdk.messages.create(**ASK)
            assert answer.content[0].text == "Hello world"
        assert proxy.token.encode() not in other.requests[0].everything


async def test_it_does_not_notice_that_somebody_else_answers() -> None:
    async with FakeProvider(stream(START, Then.CUT)) as up, FakeProvider(ok()) as other:
        async with (
            running_proxy(primary(up), fallback(other)) as proxy,
            client(proxy, api_key="k") as sdk,
        ):
            async with sdk.messages.stream(**ASK) as streamed:
                text = await streamed.get_final_text()
            assert text == "Hello world"
            up.script(drop())
            answer = await sdk.messages.create(**ASK)
            assert answer.content[0].text == "Hello world"


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError),
        (401, "authentication_error", anthropic.AuthenticationError),
        (404, "not_found_error", anthropic.NotFoundError),
        (429, "rate_limit_error", anthropic.RateLimitError),
        (529, "overloaded_error", anthropic.APIStatusError),
    ],
)
async def test_it_raises_what_it_would_raise_without_the_proxy(
    status: int, kind: str, error: type[anthropic.APIStatusError]
) -> None:
    step = refuse(status, "why not", kind, [(b"request-id", b"req_upstream")])
    async with FakeProvider(step) as up, running_proxy(primary(up)) as proxy:
        async with client(proxy, api_key="k") as sdk:
            with pytest.raises(error) as caught:
                await sdk.messages.create(**ASK)
    assert caught.value.status_code == status
    assert caught.value.request_id == "req_upstream"
    assert caught.value.body == {"type": "error", "error": {"type": kind, "message": "why not"}}


async def test_a_wrong_token_is_an_authentication_error_that_it_does_not_retry() -> None:
    async with running_proxy() as proxy:
        async with anthropic.AsyncAnthropic(
            base_url=proxy.url, api_key="sk-ccf-wrong", max_retries=2
        ) as sdk:
            with pytest.raises(anthropic.AuthenticationError):
                await sdk.messages.create(**ASK)
        assert proxy.server.server_state.total_requests == 1


@pytest.mark.parametrize("dies", [[Then.CUT], [error_event()]])
async def test_a_stream_that_dies_is_an_error_and_never_a_short_answer(dies: list[Any]) -> None:
    async with FakeProvider(stream(START, BLOCK, HELLO, *dies)) as up:
        async with running_proxy(primary(up)) as proxy, client(proxy, api_key="k") as sdk:
            with pytest.raises(Exception) as caught:
                async with sdk.messages.stream(**ASK) as streamed:
                    await streamed.get_final_message()
            assert type(caught.value).__module__.split(".")[0] in ("anthropic", "httpx", "httpx2")


async def test_it_counts_tokens_and_lists_models() -> None:
    model = {"type": "model", "id": "m", "display_name": "M", "created_at": "2026-01-01T00:00:00Z"}
    models = json.dumps({"data": [model], "has_more": False, "first_id": "m", "last_id": "m"})
    async with FakeProvider(message(b'{"input_tokens":7}'), message(models.encode())) as up:
        async with running_proxy(primary(up)) as proxy, client(proxy, api_key="k") as sdk:
            counted = await sdk.messages.count_tokens(
                model="claude-test", messages=[{"role": "user", "content": "Hi"}]
            )
            assert counted.input_tokens == 7
            assert [model.id async for model in sdk.models.list()] == ["m"]
