"""The log writer tidies up: now and then, in batches, whatever happens to it."""

from __future__ import annotations

import asyncio

import pytest

from proxy.history.logbook import Logbook

SOON = (0.001, 0.001)


async def test_it_deletes_batch_after_batch_until_nothing_is_left_and_then_again() -> None:
    more = iter([True, True, False, True, False])
    called, done = 0, asyncio.Event()
    loop = asyncio.get_running_loop()

    def tidy() -> bool:
        nonlocal called
        called += 1
        answer = next(more, None)
        if answer is None:
            loop.call_soon_threadsafe(done.set)
        return bool(answer)

    logbook = Logbook(10, write=lambda batch: None, tidy=tidy, tidy_seconds=SOON)
    logbook.start()
    async with asyncio.timeout(5):
        await done.wait()
    await logbook.close()
    assert called >= 6


async def test_a_database_that_fails_is_asked_again_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    called, again = 0, asyncio.Event()
    loop = asyncio.get_running_loop()

    def tidy() -> bool:
        nonlocal called
        called += 1
        if called == 1:
            raise ValueError("the disk is full")
        loop.call_soon_threadsafe(again.set)
        return False

    logbook = Logbook(10, write=lambda batch: None, tidy=tidy, tidy_seconds=SOON)
    logbook.start()
    async with asyncio.timeout(5):
        await again.wait()
    await logbook.close()
    assert "retention.failed" in caplog.text


async def test_closing_does_not_wait_for_the_next_time() -> None:
    logbook = Logbook(10, write=lambda batch: None, tidy_seconds=(3600, 3600))
    logbook.start()
    async with asyncio.timeout(2):
        await logbook.close()
