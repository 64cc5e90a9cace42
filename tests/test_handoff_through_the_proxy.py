"""A stream that died: the conversation's own retry goes to somebody else."""

from __future__ import annotations

import pytest
from asgiref.sync import sync_to_async

from providers.models import AvoidedProvider, ConfigurationVersion, Provider
from tests.proxy import (
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
    BLOCK,
    HELLO,
    START,
    STREAM,
    FakeProvider,
    Step,
    Then,
    error_event,
    ok,
    refuse,
    stream,
)

pytestmark = WITH_DATABASE

SESSION, AGENT = "x-claude-code-session-id", "x-claude-code-agent-id"
ALICE = [(SESSION, "session-a"), (AGENT, "agent-1")]
DIES = stream(START, BLOCK, HELLO, Then.CUT)
SERVED = "anthropic-primary=200"
HANDED_OVER = "anthropic-primary=skipped,openrouter=200"


async def ask(proxy: Proxy, *identity: tuple[str, str], streaming: bool = True) -> Reply:
    return await proxy.call(body_of(streaming), extra=identity)


async def trail(proxy: Proxy, *identity: tuple[str, str], streaming: bool = True) -> str | None:
    return (await ask(proxy, *identity, streaming=streaming))["x-ccf-attempts"]


async def test_the_retry_goes_to_the_next_provider_for_a_minute() -> None:
    clock = Clock()
    async with FakeProvider(DIES, ok()) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other), clock=clock) as proxy:
            broken = await ask(proxy, *ALICE)
            assert broken.aborted
            assert (broken["x-ccf-attempts"], broken.body) == (SERVED, START + BLOCK + HELLO)
            assert other.requests == []

            retry = await ask(proxy, *ALICE)
            assert (retry.body, retry["x-ccf-attempts"]) == (b"".join(STREAM), HANDED_OVER)
            assert await trail(proxy, *ALICE, streaming=False) == HANDED_OVER
            clock.advance(59)
            assert await trail(proxy, *ALICE) == HANDED_OVER
            clock.advance(1)
            assert await trail(proxy, *ALICE) == SERVED

            first, second, *_ = await proxy.log(5)
            assert (first.outcome, first.provider) == ("broken", "anthropic-primary")
            assert (second.outcome, second.fell_back) == ("answered", True)
            skipped = (await proxy.attempts(5))[1][0]
            assert (skipped.kind, "stream" in skipped.error_message) == ("skipped", True)


async def test_other_conversations_stay_where_they_are() -> None:
    async with FakeProvider(DIES, ok()) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            await ask(proxy, *ALICE)
            for identity in (
                [(SESSION, "session-b"), (AGENT, "agent-1")],
                [(SESSION, "session-a"), (AGENT, "agent-2")],
                [(SESSION, "session-a")],
                [],
            ):
                assert await trail(proxy, *identity) == SERVED, identity
            assert await trail(proxy, *ALICE) == HANDED_OVER


async def test_without_a_session_nobody_is_avoided() -> None:
    async with FakeProvider(DIES, ok()) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            assert (await ask(proxy)).aborted
            assert await trail(proxy) == SERVED


SAID: dict[str, Step] = {
    "the provider says that it failed": stream(START, BLOCK, error_event()),
    "all went well": ok(),
    "it fails before its first content": stream(START, Then.CUT),
}


@pytest.mark.parametrize("step", SAID.values(), ids=SAID)
async def test_only_a_stream_that_died_is_avoided(step: Step) -> None:
    async with FakeProvider(step, ok()) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            await ask(proxy, *ALICE)
            assert await trail(proxy, *ALICE) == SERVED


async def test_the_avoided_provider_is_asked_in_the_end_when_the_others_fail() -> None:
    async with FakeProvider(DIES, ok()) as up, FakeProvider(refuse(529)) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            await ask(proxy, *ALICE)
            answer = await ask(proxy, *ALICE)
            assert (answer.status, answer["x-ccf-attempts"]) == (
                200,
                "anthropic-primary=skipped,openrouter=529,anthropic-primary=200",
            )


async def test_the_only_provider_is_not_avoided() -> None:
    async with FakeProvider(DIES, ok()) as up, running_proxy(primary(up)) as proxy:
        await ask(proxy, *ALICE)
        assert await trail(proxy, *ALICE) == SERVED


async def test_streams_that_die_count_as_failures() -> None:
    async with FakeProvider(DIES, DIES, DIES, ok()) as first, FakeProvider(ok()) as second:
        providers = fallback(first, "first"), fallback(second, "second")
        async with running_proxy(*providers, settings={"max_cooldown": 300}) as proxy:
            for _ in range(3):
                assert (await ask(proxy)).aborted
            assert await trail(proxy) == "first=skipped,second=200"


async def test_the_retry_goes_to_the_next_provider_at_every_worker() -> None:
    clock = Clock()
    async with FakeProvider(DIES, ok()) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other), clock=clock) as first:
            async with worker_of(first.token, clock=clock) as second:
                assert (await ask(first, *ALICE)).aborted
                await avoided(second)
                assert await trail(second, *ALICE) == HANDED_OVER
                assert await trail(second, (SESSION, "session-b")) == SERVED
                clock.advance(60)
                assert await trail(second, *ALICE) == SERVED


async def avoided(proxy: Proxy, conversations: int = 1) -> None:
    table = proxy.runtime.health.table
    await until(lambda: len(table.avoidance) == conversations, "the worker has heard of it")


async def test_a_restart_keeps_what_is_avoided() -> None:
    clock = Clock()
    async with FakeProvider(DIES, ok()) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other), clock=clock) as proxy:
            await ask(proxy, *ALICE)
        async with worker_of(proxy.token, clock=clock) as again:
            assert await trail(again, *ALICE) == HANDED_OVER


async def test_only_hashes_are_stored_and_not_for_long() -> None:
    clock = Clock()
    async with FakeProvider(DIES) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other), clock=clock) as proxy:
            await ask(proxy, *ALICE)
            (row,) = await stored(1)
            assert not {"session-a", "agent-1"} & set(str(row.__dict__).split("'"))
            assert "session-a" not in str(row.__dict__)
            clock.advance(121)
            await ask(proxy, (SESSION, "session-b"))
            await until(lambda: replaced(row), "the old row is gone")
            assert len(await stored(1)) == 1


async def stored(rows: int) -> list[AvoidedProvider]:
    found: list[AvoidedProvider] = []

    async def there() -> bool:
        nonlocal found
        found = await sync_to_async(lambda: list(AvoidedProvider.objects.all()))()
        return len(found) == rows

    await until(there, f"{rows} rows are written")
    return found


@sync_to_async
def replaced(row: AvoidedProvider) -> bool:
    return not AvoidedProvider.objects.filter(pk=row.pk).exists()


async def test_a_provider_that_is_deleted_meanwhile_holds_nothing_up() -> None:
    async with FakeProvider(DIES, ok()) as up, FakeProvider(DIES, ok()) as other:
        async with running_proxy(primary(up), fallback(other)) as proxy:
            gone = await sync_to_async(Provider.objects.get)(name="anthropic-primary")
            proxy.runtime.health.table.avoidance.add(gone.pk + 1000, "session-x", "", 2e9)
            await ask(proxy, *ALICE)
            (row,) = await stored(1)
            assert row.provider_id == gone.pk
            assert proxy.runtime.health.table.avoidance.unshared() == []


async def test_rows_that_say_too_much_are_not_believed() -> None:
    clock = Clock()
    async with FakeProvider(DIES, ok()) as up, FakeProvider(ok()) as other:
        async with running_proxy(primary(up), fallback(other), clock=clock) as proxy:
            await ask(proxy, *ALICE)
            await stored(1)

            @sync_to_async
            def for_ever() -> None:
                AvoidedProvider.objects.update(until=clock.now + 1e6)
                ConfigurationVersion.bump("avoidance")

            await for_ever()

            async def served() -> bool:
                return await trail(proxy, *ALICE) == SERVED

            await until(served, "the row is not believed")
