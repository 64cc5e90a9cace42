"""Coroutine tests, and what is made once for a whole run."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator

import httpx
import pytest
from asgiref.sync import async_to_sync
from hypothesis import settings

# A busy machine is no reason to fail, and nothing is kept between runs.
settings.register_profile("suite", deadline=None, database=None)
settings.load_profile("suite")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs `async def` tests in an event loop of their own, database work in the main thread."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = inspect.signature(pyfuncitem.obj).parameters
    async_to_sync(pyfuncitem.obj)(**{name: pyfuncitem.funcargs[name] for name in arguments})
    return True


@pytest.fixture(autouse=True, scope="session")
def _certificates_are_read_once() -> Iterator[None]:
    """Each proxy would read them anew at its start, in a tenth of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx, "create_ssl_context", functools.cache(httpx.create_ssl_context))
        yield
