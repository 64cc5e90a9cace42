"""What a call has used is free when it is over, without the help of the garbage collector."""

from __future__ import annotations

import gc

import pytest

from proxy.call import Call
from tests.proxy import WITH_DATABASE, body_of, fallback, primary, running_proxy, until
from tests.upstreams import FakeProvider, Step, drop, message, ok, refuse

pytestmark = WITH_DATABASE

FAILURES = {
    "refused": refuse(429),
    "broken": refuse(500),
    "no answer": drop(),
    "no message": message(b"{}"),
}


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("failing", FAILURES.values(), ids=FAILURES)
async def test_a_call_that_fell_over_leaves_nothing(failing: Step, streaming: bool) -> None:
    async with FakeProvider(failing) as first, FakeProvider(ok()) as second:
        async with running_proxy(primary(first), fallback(second)) as proxy:
            gc.collect()
            gc.disable()
            try:
                answer = await proxy.call(body_of(streaming))
                assert answer["x-ccf-provider"] == "openrouter"
                await until(lambda: proxy.runtime.live_calls.none.is_set(), "the call is over")
                assert not [kept for kept in gc.get_objects() if isinstance(kept, Call)]
            finally:
                gc.enable()
