"""A provider for the browser's tests: it calls the tool of a connection test, and answers calls."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from tests.upstreams import DELTA, START, STOP, FakeProvider, event, stream

TOOL = event(
    "content_block_start",
    index=0,
    content_block={"type": "tool_use", "id": "t", "name": "report", "input": {}},
)


@contextlib.contextmanager
def fake_provider() -> Iterator[FakeProvider]:
    """A fake provider in a thread of its own: the browser is driven in this one."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    provider = FakeProvider(stream(START, TOOL, DELTA, STOP))
    asyncio.run_coroutine_threadsafe(provider.__aenter__(), loop).result(5)
    try:
        yield provider
    finally:
        leave = provider.__aexit__(None, None, None)
        asyncio.run_coroutine_threadsafe(leave, loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
