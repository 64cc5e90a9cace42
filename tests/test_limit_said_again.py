"""A provider that is skipped because of a limit: what it said is heard when all others fail."""

from __future__ import annotations

import json

import pytest
from asgiref.sync import sync_to_async

from providers.models import ConfigurationVersion, ProviderHealth
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
    JSON_TYPE,
    UNIFIED,
    FakeProvider,
    Step,
    drop,
    ok,
    rate_limited,
    refuse,
    reply,
)

pytestmark = WITH_DATABASE

HOUR = 3600
SETTINGS = {"max_cooldown": 300}
BODY = (
    b'{ "type":"error",  "error":{"type":"rate_limit_error","message":"5-hour limit reached"},'
    b'"request_id":"req_011CSHoEeqs5C35K2UUqR7Fy"}\n'
)
OTHER_KEY = "sk-ant-oat01-the-credential-of-somebody-else"


def used_up(until: float, *more: tuple[bytes, bytes], body: bytes = BODY) -> Step:
    headers = [
        JSON_TYPE,
        (b"request-id", b"req_011CSHoEeqs5C35K2UUqR7Fy"),
        (UNIFIED + b"status", b"rejected"),
        (UNIFIED + b"representative-claim", b"five_hour"),
        (UNIFIED + b"reset", b"%d" % until),
        *more,
    ]
    return reply(429, body, headers)


COMPLAINTS: dict[str, Step] = {
    "500": refuse(500),
    "529": refuse(529, kind="overloaded_error"),
    "no connection": drop(),
    "a complaint": refuse(400, "unknown field", "invalid_request_error"),
    "bad key": refuse(401, "bad key", "authentication_error"),
    "a limit of its own": rate_limited(30),
}


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("complaint", COMPLAINTS.values(), ids=COMPLAINTS)
async def test_a_used_up_subscription_is_heard_whether_it_was_asked_or_skipped(
    complaint: Step, streaming: bool
) -> None:
    clock = Clock()
    limit = used_up(clock.now + HOUR, (b"x-should-retry", b"true"))
    async with FakeProvider(limit, ok()) as up, FakeProvider(complaint) as other:
        providers = primary(up), fallback(other)
        async with running_proxy(*providers, settings=SETTINGS, clock=clock) as proxy:
            for tried in ("429", "skipped"):
                answer = await proxy.call(body_of(streaming))
                assert (answer["x-ccf-attempts"] or "").startswith(f"anthropic-primary={tried},")
                assert (answer.status, answer.body) == (429, BODY)
                assert answer["anthropic-ratelimit-unified-status"] == "rejected"
                assert answer["anthropic-ratelimit-unified-reset"] == str(int(clock.now + HOUR))
                assert answer["request-id"] == "req_011CSHoEeqs5C35K2UUqR7Fy"
                assert answer["content-type"] == "application/json"
                assert answer["x-should-retry"] == "true"
                assert (answer["retry-after"], answer["x-ccf-provider"]) == (None, None)
            assert len(up.requests) == 1
            for call in await proxy.log(2):
                assert (call.outcome, call.status, call.provider) == ("failed", 429, "")
                assert call.error == "5-hour limit reached"


async def test_a_prompt_that_the_others_find_too_long_is_heard_for_it_can_be_mended() -> None:
    clock = Clock()
    overflow = refuse(400, "prompt is too long: 3 tokens > 2 maximum", "invalid_request_error")
    async with FakeProvider(used_up(clock.now + HOUR)) as up, FakeProvider(overflow) as other:
        providers = primary(up), fallback(other)
        async with running_proxy(*providers, settings=SETTINGS, clock=clock) as proxy:
            assert [(await proxy.call()).status for _ in range(2)] == [429, 400]


async def test_retry_after_counts_down() -> None:
    clock = Clock()
    limit = used_up(clock.now + HOUR, (b"retry-after", b"3600"), (b"retry-after-ms", b"3600000"))
    async with FakeProvider(limit, ok()) as up, FakeProvider(refuse(500)) as other:
        providers = primary(up), fallback(other)
        unprobed = {**SETTINGS, "probe_interval": 2 * HOUR}
        async with running_proxy(*providers, settings=unprobed, clock=clock) as proxy:
            assert (await proxy.call())["retry-after"] == "3600"
            for passed, left in ((1000, "2600"), (2599.5, "1")):
                clock.advance(passed)
                answer = await proxy.call()
                assert (answer.status, answer["retry-after"]) == (429, left)
                assert answer["retry-after-ms"] is None
            clock.advance(1)
            assert (await proxy.call())["x-ccf-attempts"] == "anthropic-primary=200"


async def test_it_is_heard_by_the_login_and_about_the_model_that_it_was_said_to() -> None:
    clock = Clock()
    limit = refuse(
        429,
        "this model",
        "rate_limit_error",
        [
            (UNIFIED + b"status", b"rejected"),
            (UNIFIED + b"representative-claim", b"seven_day_opus"),
            (UNIFIED + b"reset", b"%d" % (clock.now + HOUR)),
        ],
    )
    async with FakeProvider(limit, refuse(503)) as up, FakeProvider(refuse(500)) as other:
        providers = primary(up), fallback(other)
        async with running_proxy(*providers, settings=SETTINGS, clock=clock) as proxy:
            assert (await ask(proxy, "opus")).status == 429
            assert (await ask(proxy, "opus", OTHER_KEY)).status == 500
            assert (await ask(proxy, "sonnet")).status == 500
            again = await ask(proxy, "opus")
            assert (again.status, again.json()["error"]["message"]) == (429, "this model")
            assert len(up.requests) == 3


@pytest.mark.parametrize(("opus_hours", "heard"), [(2, b"Opus"), (0.5, b"5-hour")])
async def test_of_several_limits_the_one_that_ends_last_is_heard(
    opus_hours: float, heard: bytes
) -> None:
    clock = Clock()
    of_opus = reply(
        429,
        BODY.replace(b"5-hour", b"Opus"),
        [
            (UNIFIED + b"status", b"rejected"),
            (UNIFIED + b"representative-claim", b"seven_day_opus"),
            (UNIFIED + b"reset", b"%d" % (clock.now + opus_hours * HOUR)),
        ],
    )
    async with FakeProvider(of_opus, used_up(clock.now + HOUR), ok()) as up:
        async with FakeProvider(refuse(500)) as other:
            providers = primary(up), fallback(other)
            async with running_proxy(*providers, settings=SETTINGS, clock=clock) as proxy:
                assert b"Opus" in (await ask(proxy, "opus")).body
                assert b"5-hour" in (await ask(proxy, "sonnet")).body
                assert heard in (await ask(proxy, "opus")).body
                assert len(up.requests) == 2


async def test_an_overload_that_names_its_end_is_not_said_to_others() -> None:
    overload = refuse(529, "request of one client", "overloaded_error", [(b"retry-after", b"600")])
    async with FakeProvider(overload, ok()) as up, FakeProvider(refuse(500)) as other:
        providers = primary(up), fallback(other)
        async with running_proxy(*providers, settings=SETTINGS, clock=Clock()) as proxy:
            assert [(await proxy.call()).status for _ in range(2)] == [500, 500]
            answer = await ask(proxy, "claude-test", OTHER_KEY)
            assert (answer.status, b"of one client" in answer.body) == (500, False)
            assert await replies() == [""]


async def ask(proxy: Proxy, model: str, credential: str = CLIENT_KEY) -> Reply:
    return await proxy.call(body_of(model=model), headers=proxy.headers(credential))


async def test_a_plain_rate_limit_is_not_hidden_by_a_complaint_but_by_a_later_failure() -> None:
    for complaint, status in ((refuse(400), 429), (refuse(500), 500)):
        async with FakeProvider(rate_limited(60), ok()) as up, FakeProvider(complaint) as other:
            providers = primary(up), fallback(other)
            async with running_proxy(*providers, settings=SETTINGS, clock=Clock()) as proxy:
                answers = [await proxy.call() for _ in range(2)]
                assert [answer.status for answer in answers] == [status, status]
                assert len(up.requests) == 1


async def test_a_limit_of_a_key_of_our_own_is_not_the_clients_to_hear_again() -> None:
    clock = Clock()
    limit = used_up(clock.now + HOUR)
    async with FakeProvider(limit, ok()) as first, FakeProvider(refuse(500)) as second:
        providers = fallback(first, "first"), fallback(second, "second")
        async with running_proxy(*providers, settings=SETTINGS, clock=clock) as proxy:
            answers = [await proxy.call() for _ in range(2)]
            assert [answer.status for answer in answers] == [500, 500]
            assert await replies() == [""]


async def test_an_answer_of_a_fallback_is_all_that_is_heard() -> None:
    clock = Clock()
    async with FakeProvider(used_up(clock.now + HOUR)) as up, FakeProvider(ok()) as other:
        providers = primary(up), fallback(other)
        async with running_proxy(*providers, settings=SETTINGS, clock=clock) as proxy:
            for _ in range(2):
                answer = await proxy.call()
                assert (answer.status, answer["x-ccf-provider"]) == (200, "openrouter")


async def test_a_soon_returning_fallback_is_still_waited_for() -> None:
    clock, slept = Clock(), []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.advance(seconds)

    async with FakeProvider(used_up(clock.now + HOUR)) as up:
        async with FakeProvider(rate_limited(2), ok()) as other:
            providers = primary(up), fallback(other)
            settings = {**SETTINGS, "patience": 5}
            async with running_proxy(
                *providers, settings=settings, clock=clock, sleep=sleep
            ) as proxy:
                assert (await proxy.call())["x-ccf-provider"] == "openrouter"
                assert slept == [2]


async def test_all_workers_say_it_also_after_a_restart() -> None:
    clock = Clock()
    limit = used_up(clock.now + HOUR)
    async with FakeProvider(limit, ok()) as up, FakeProvider(refuse(500)) as other:
        providers = primary(up), fallback(other)
        async with running_proxy(*providers, settings=SETTINGS, clock=clock) as proxy:
            async with worker_of(proxy.token, clock=clock) as second:
                await proxy.call()
                await proxy.share()
                await second.share()
                assert (await second.call()).body == BODY
        async with worker_of(proxy.token, clock=clock) as again:
            assert (await again.call()).body == BODY
            assert len(up.requests) == 1


SECRETS: dict[str, bytes] = {
    "the login": CLIENT_KEY.encode(),
    "a key": b"sk-ant-api03-abcdefghijkl",
    "no text": b"\xff\xfe",
    "too long": b"x " * 3000,
}


@pytest.mark.parametrize("quoted", SECRETS.values(), ids=SECRETS)
async def test_what_quotes_a_secret_or_is_too_long_is_not_kept(quoted: bytes) -> None:
    clock = Clock()
    body = BODY.replace(b"5-hour", quoted)
    limit = used_up(clock.now + HOUR, body=body)
    async with FakeProvider(limit, ok()) as up, FakeProvider(refuse(500)) as other:
        providers = primary(up), fallback(other)
        async with running_proxy(*providers, settings=SETTINGS, clock=clock) as proxy:
            assert (await proxy.call()).body == body
            assert (await proxy.call()).status == 500
            assert await replies() == [""]


async def replies() -> list[str]:
    """What is kept in the database, once there is a row."""
    found: list[str] = []

    async def written() -> bool:
        rows = ProviderHealth.objects.filter(cause="limit")
        found[:] = await sync_to_async(lambda: list(rows.values_list("reply", flat=True)))()
        return bool(found)

    await until(written, "the limit is written down")
    return found


async def test_of_its_headers_only_those_are_kept_that_the_history_keeps() -> None:
    clock = Clock()
    limit = used_up(clock.now + HOUR, (b"x-account", b"of-somebody"), (b"cf-ray", b"1"))
    async with FakeProvider(limit, ok()) as up, FakeProvider(refuse(500)) as other:
        providers = primary(up), fallback(other)
        async with running_proxy(*providers, settings=SETTINGS, clock=clock) as proxy:
            assert (await proxy.call())["x-account"] == "of-somebody"
            again = await proxy.call()
            assert (again["x-account"], again["cf-ray"]) == (None, "1")
            (kept,) = await replies()
            assert "of-somebody" not in kept


@pytest.mark.parametrize(
    "edited", ["nonsense", "[]", "{}", json.dumps({"status": "x", "headers": 1, "body": None})]
)
async def test_a_row_edited_by_hand_breaks_nothing(edited: str) -> None:
    clock = Clock()
    limit = used_up(clock.now + HOUR)
    async with FakeProvider(limit, ok()) as up, FakeProvider(refuse(500)) as other:
        providers = primary(up), fallback(other)
        async with running_proxy(*providers, settings=SETTINGS, clock=clock) as proxy:
            await proxy.call()
            (kept,) = await replies()
            assert CLIENT_KEY not in kept

            @sync_to_async
            def edit() -> None:
                ProviderHealth.objects.update(reply=edited)
                ConfigurationVersion.bump("health")

            await edit()

            async def unknown() -> bool:
                return (await proxy.call()).status == 500

            await until(unknown, "the row has been read")
            assert len(up.requests) == 1


async def test_a_success_and_a_reset_forget_it() -> None:
    clock = Clock()
    limit = used_up(clock.now + HOUR)
    async with FakeProvider(limit, ok()) as up, FakeProvider(ok()) as other:
        providers = primary(up), fallback(other)
        async with running_proxy(*providers, settings=SETTINGS, clock=clock) as proxy:
            await proxy.call()
            assert await replies() != [""]
            table, settings = proxy.runtime.health.table, proxy.runtime.health.settings
            primary_id = proxy.runtime.snapshot.providers[0].id
            table.reset(primary_id, settings, clock.now)
            await proxy.share()
            kept = ProviderHealth.objects.values_list("reply", flat=True)
            assert set(await sync_to_async(lambda: list(kept))()) == {""}
