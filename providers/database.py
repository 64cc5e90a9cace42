"""A thread of one's own for database work beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import connections

P = ParamSpec("P")
T = TypeVar("T")


class DatabaseThread:
    """Runs one database job after the other, on one connection."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`job(...)` in the thread. A caller that is cancelled does not stop the job."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._executor, lambda: _on_live_connection(job, *args, **kwargs)
        )

    async def close(self) -> None:
        """Wait for the last job and close the connection."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._executor, connections.close_all)
        self._executor.shutdown(wait=False)


def _on_live_connection(job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    for connection in connections.all(initialized_only=True):
        if connection.vendor == "sqlite":
            # To open the file anew for every job takes longer than most jobs.
            connection.close_at = None
        connection.close_if_unusable_or_obsolete()
    return job(*args, **kwargs)
