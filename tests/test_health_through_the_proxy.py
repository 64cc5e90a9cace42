"""What the proxy does with providers that have failed or reached a limit, on real sockets."""

from __future__ import annotations

import json

import pytest

from proxy.models import Attempt
from tests.proxy import (
    CLIENT_KEY,
    WITH_DATABASE,
    Clock,
    Proxy,
    body_of,
    fallback,
    primary,
    running_proxy,
    until,
)
from tests.proxy import serving as worker_of
from tests.raw_http import Reply
from tests.upstreams import (
    Connection,
    FakeProvider,
    Received,
    Step,
    error_event,
    hang,
    message,
    ok,
    rate_limited,
    refuse,
    reply,
    stream,
    used_up,
)

pytestmark = WITH_DATABASE

COOLDOWNS = {"max_cooldown": 300}
HOUR = 3600
OTHER_KEY = "sk-ant-oat01-the-credential-of-somebody-else"
SERVED = "anthropic-primary=200"
SKIPPED = "anthropic-primary=skipped,openrouter=200"
LIMITED = "anthropic-primary=429,openrouter=200"


def only(step: Step, *, credential: str = "", model: str = "") -> Step:
    """`step` for requests with this credential or model, a good answer for all others."""

    async def judged(connection: Connection, request: Received) -> None:
        meant = (
            request.values("authorization") == [b"Bearer " + credential.encode()]
            if credential
            else json.loads(request.body)["model"] == model
        )
        await (step if meant else ok())(connection, request)

    return judged


async def trail(proxy: Proxy, credential: str = CLIENT_KEY, model: str = "claude-test") -> str:
    return (await answer_to(proxy, credential, model))["x-ccf-attempts"] or ""


async def answer_to(
    proxy: Proxy, credential: str = CLIENT_KEY, model: str = "claude-test"
) -> Reply:
    return await proxy.call(body_of(model=model), headers=proxy.headers(credential))


@pytest.mark.parametrize(
    ("claim", "reason"), [("five_hour", "5-hour limit"), ("seven_day", "7-day limit")]
)
async def test_a_used_up_subscription_skips_the_primary_for_that_credential_alone(
    claim: str, reason: str
) -> None:
    clock = Clock()
    step = only(used_up(clock.now + HOUR, claim), credential=CLIENT_KEY)
    async with FakeProvider(step) as up, FakeProvider(ok()) as other:
        async with running_proxy(
            primary(up), fallback(other), settings=COOLDOWNS, clock=clock
        ) as proxy:
            assert await trail(proxy) == LIMITED
            for model in ("claude-test", "claude-other"):
                assert await trail(proxy, model=model) == SKIPPED
            assert len(up.requests) == 1
            assert await trail(proxy, OTHER_KEY) == SERVED
            clock.advance(HOUR)
            up.script(ok())
            assert await trail(proxy) == SERVED

            attempts = await proxy.attempts(5)
            skipped, tried = attempts[1]
            assert (skipped.kind, skipped.result, skipped.status, skipped.error_message) == (
                Attempt.Kind.SKIPPED,
                "skipped",
                None,
                reason,
            )
            assert (tried.kind, tried.provider) == (Attempt.Kind.TRIED, "openrouter")
            assert [call.fell_back for call in await proxy.log(5)] == [True] * 3 + [False] * 2


async def test_a_limit_of_one_model_of_a_subscription_leaves_the_other_models_open() -> None:
    clock = Clock()
    step = only(used_up(clock.now + HOUR, "seven_day_opus"), model="claude-opus")
    async with FakeProvider(step) as up, FakeProvider(ok()) as other:
        async with running_proxy(
            primary(up), fallback(other), settings=COOLDOWNS, clock=clock
        ) as proxy:
            assert await trail(proxy, model="claude-opus") == LIMITED
            assert await trail(proxy, model="claude-opus") == SKIPPED
            assert await trail(proxy, model="claude-sonnet") == SERVED


async def test_a_plain_429_closes_that_model_for_as_long_as_it_says() -> None:
    clock = Clock()
    step = only(rate_limited(60), model="claude-test")
    async with FakeProvider(step) as up, FakeProvider(ok()) as other:
        async with running_proxy(
            primary(up), fallback(other), settings=COOLDOWNS, clock=clock
        ) as proxy:
            assert await trail(proxy) == LIMITED
            assert await trail(proxy) == SKIPPED
            assert await trail(proxy, model="claude-other") == SERVED
            clock.advance(59)
            assert await trail(proxy) == SKIPPED
            assert len(up.requests) == 2
            clock.advance(1)
            assert await trail(proxy) == LIMITED


async def test_a_plain_429_of_a_key_of_our_own_closes_that_model_for_every_client() -> None:
    step = only(rate_limited(60), model="claude-test")
    async with FakeProvider(step) as first, FakeProvider(ok()) as second:
        providers = fallback(first, "first"), fallback(second, "second")
        async with running_proxy(*providers, settings=COOLDOWNS) as proxy:
            assert await trail(proxy) == "first=429,second=200"
            assert await trail(proxy, OTHER_KEY) == "first=skipped,second=200"
            assert await trail(proxy, OTHER_KEY, "claude-other") == "first=200"


FAILURES: dict[str, Step] = {
    "500": refuse(500),
    "529": refuse(529, kind="overloaded_error"),
    "an error inside the stream": stream(error_event()),
    "our key rejected": refuse(401, kind="authentication_error"),
    "a page": reply(200, b"<html></html>"),
}


@pytest.mark.parametrize(
    ("longest", "cooldowns"),
    [
        (300, [0, 0, 30, 30, 60, 60, 60, 60, 60, 300]),
        (45, [0, 0, 30, 30, 45, 45, 45, 45, 45, 45]),
        (0, [0] * 10),
    ],
)
async def test_failures_in_a_row_close_a_provider_for_longer_and_longer(
    longest: int, cooldowns: list[int]
) -> None:
    clock = Clock()
    async with FakeProvider(*FAILURES.values()) as first, FakeProvider(ok()) as second:
        async with running_proxy(
            fallback(first, "first"),
            fallback(second, "second"),
            settings={"max_cooldown": longest},
            clock=clock,
        ) as proxy:
            for number, cooldown in enumerate(cooldowns, 1):
                answer = await proxy.call()
                assert (answer.status, len(first.requests)) == (200, number)
                if cooldown:
                    clock.advance(cooldown - 1)
                    assert await trail(proxy) == "first=skipped,second=200"
                    assert len(first.requests) == number
                    clock.advance(1)


async def test_a_success_starts_the_count_again() -> None:
    down = refuse(500)
    async with FakeProvider(down, down, ok(), down, down, ok()) as first:
        async with FakeProvider(ok()) as second:
            providers = fallback(first, "first"), fallback(second, "second")
            async with running_proxy(*providers, settings=COOLDOWNS) as proxy:
                for _ in range(6):
                    await proxy.call()
                assert len(first.requests) == 6


async def test_the_only_active_provider_is_never_closed_by_failures() -> None:
    async with FakeProvider(refuse(500)) as up, FakeProvider(ok()) as off:
        providers = fallback(up, "up"), fallback(off, "off", enabled=False)
        async with running_proxy(*providers, settings=COOLDOWNS) as proxy:
            for _ in range(11):
                assert (await proxy.call()).status == 500
            assert len(up.requests) == 11


async def test_limits_close_nothing_when_cooldowns_are_switched_off() -> None:
    clock = Clock()
    async with FakeProvider(used_up(clock.now + HOUR)) as up, FakeProvider(ok()) as other:
        async with running_proxy(
            primary(up), fallback(other), settings={"max_cooldown": 0}, clock=clock
        ) as proxy:
            assert [await trail(proxy) for _ in range(4)] == [LIMITED] * 4


async def test_when_all_are_closed_only_the_one_that_is_back_soonest_is_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        FakeProvider(rate_limited(3000)) as first,
        FakeProvider(rate_limited(1000)) as second,
        FakeProvider(rate_limited(2000)) as third,
    ):
        providers = [
            fallback(first, "first"),
            fallback(second, "second"),
            fallback(third, "third"),
        ]
        async with running_proxy(*providers, settings=COOLDOWNS, clock=Clock()) as proxy:
            assert await trail(proxy) == "first=429,second=429,third=429"
            assert not events(caplog, "safety_valve.triggered")
            answer = await proxy.call()
            assert answer["x-ccf-attempts"] == "first=skipped,second=429,third=skipped"
            assert (answer.status, answer["retry-after"]) == (429, "1000")
            assert events(caplog, "safety_valve.triggered") == ["second"]
            second.script(ok())
            assert await trail(proxy) == "first=skipped,second=200"
            assert await trail(proxy) == "first=skipped,second=200"
            assert events(caplog, "safety_valve.triggered") == ["second", "second"]


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    """The providers that events of this name were about."""
    return [
        record.fields["provider"]  # type: ignore[attr-defined]
        for record in caplog.records
        if record.getMessage() == name
    ]


async def test_rejected_credentials_of_one_client_close_the_primary_for_it_alone() -> None:
    step = only(refuse(401, kind="authentication_error"), credential=CLIENT_KEY)
    async with FakeProvider(step) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other), settings=COOLDOWNS) as proxy:
            for _ in range(3):
                assert await trail(proxy) == "anthropic-primary=401,openrouter=200"
            assert await trail(proxy) == SKIPPED
            assert await trail(proxy, OTHER_KEY) == SERVED


async def test_complaints_about_the_request_count_for_nothing() -> None:
    statuses = [400, 404, 413, 422, 400]
    steps = [refuse(status, kind="invalid_request_error") for status in statuses]
    async with FakeProvider(*steps) as first, FakeProvider(ok()) as second:
        providers = fallback(first, "first"), fallback(second, "second")
        async with running_proxy(*providers, settings=COOLDOWNS) as proxy:
            for status in statuses:
                assert await trail(proxy) == f"first={status},second=200"


async def test_token_counts_count_for_nothing() -> None:
    async with FakeProvider(refuse(500)) as first, FakeProvider(ok()) as second:
        providers = fallback(first, "first"), fallback(second, "second")
        async with running_proxy(*providers, settings=COOLDOWNS) as proxy:
            for _ in range(5):
                await proxy.call(target="/v1/messages/count_tokens")
            assert len(first.requests) == 5
            first.script(ok())
            assert await trail(proxy) == "first=200"


async def test_clients_that_leave_count_for_nothing() -> None:
    async with FakeProvider(hang()) as first, FakeProvider(ok()) as second:
        providers = fallback(first, "first"), fallback(second, "second")
        async with running_proxy(*providers, settings=COOLDOWNS) as proxy:
            for number in range(5):
                async with proxy.open() as client:
                    await until(lambda: len(first.requests) > number, "it is asked")  # noqa: B023
                    client.leave()
            await proxy.log(5)
            first.script(ok())
            assert await trail(proxy) == "first=200"


async def test_a_restart_keeps_cooldowns() -> None:
    clock = Clock()
    async with FakeProvider(used_up(clock.now + HOUR)) as up, FakeProvider(ok()) as other:
        async with running_proxy(
            primary(up), fallback(other), settings=COOLDOWNS, clock=clock
        ) as proxy:
            assert await trail(proxy) == LIMITED
        up.script(ok())
        async with worker_of(proxy.token, clock=clock) as again:
            assert await trail(again) == SKIPPED
            clock.advance(HOUR)
            assert await trail(again) == SERVED


async def test_what_one_worker_has_seen_closes_the_provider_in_the_others() -> None:
    clock = Clock()
    async with FakeProvider(used_up(clock.now + HOUR)) as up, FakeProvider(ok()) as other:
        async with running_proxy(
            primary(up), fallback(other), settings=COOLDOWNS, clock=clock
        ) as proxy:
            async with worker_of(proxy.token, clock=clock) as second:
                assert await trail(proxy) == LIMITED
                await proxy.share()
                await second.share()
                assert await trail(second) == SKIPPED
                assert len(up.requests) == 1


async def test_tokens_are_not_counted_by_a_provider_that_has_said_when_it_will_be_back() -> None:
    clock = Clock()
    count = "/v1/messages/count_tokens"
    async with FakeProvider(used_up(clock.now + HOUR)) as up, FakeProvider(refuse(500)) as chat:
        async with running_proxy(
            primary(up), fallback(chat, format="openai"), settings=COOLDOWNS, clock=clock
        ) as proxy:
            before = await proxy.call(target=count)
            assert before["x-ccf-attempts"] == "anthropic-primary=429"
            await trail(proxy)
            clock.advance(HOUR - 1)  # a probe is long due, and a count is none
            for _ in range(3):
                answer = await proxy.call(target=count)
                assert (answer.status, answer.json().keys()) == (200, {"input_tokens"})
                assert answer["x-ccf-attempts"] == "anthropic-primary=skipped"
            assert len(up.requests) == 2
            up.script(message(b'{"input_tokens":7}'))
            clock.advance(1)
            assert (await proxy.call(target=count)).json() == {"input_tokens": 7}
