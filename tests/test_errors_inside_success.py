"""An error that comes as a 200 is told, and counted, as what it is, in every wire format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers.models import Provider
from proxy.errors import UpstreamRefused
from proxy.outcomes import may_retry, short_result
from proxy.wire import ErrorReply
from tests.proxy import WITH_DATABASE, body_of, fallback, running_proxy
from tests.upstreams import FakeProvider, Step, either, error_body, error_event, message, ok, stream

pytestmark = WITH_DATABASE

Formats = Provider.WireFormat
ERROR: dict[str, Any] = {"error": {"message": "at capacity", "type": "overloaded_error"}}
CHUNK = b"data: " + json.dumps(ERROR).encode() + b"\n\n"
OVERLOADED: dict[str, tuple[str, Step]] = {
    "anthropic": (
        Formats.ANTHROPIC,
        either(stream(error_event()), message(error_body("overloaded_error", "at capacity"))),
    ),
    "openai": (Formats.OPENAI, either(stream(CHUNK), message(json.dumps(ERROR).encode()))),
}


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("case", OVERLOADED)
async def test_it_counts_like_the_status_that_belongs_to_it(case: str, streaming: bool) -> None:
    wire_format, step = OVERLOADED[case]
    async with FakeProvider(step) as up, FakeProvider(ok()) as other:
        first = fallback(up, "first", format=wire_format)
        async with running_proxy(first, fallback(other, "second")) as proxy:
            answer = await proxy.call(body_of(streaming))
            assert answer["x-ccf-attempts"] == "first=529,second=200"
            [[attempt, _]] = await proxy.attempts()
            assert (attempt.status, attempt.result) == (529, "529")
            assert proxy.runtime.health.state_of(first.pk).failures == 1


def test_one_that_may_pass_is_tried_again_like_any_other() -> None:
    inside = ErrorReply(529, [], b"", "overloaded_error", "at capacity", upstream_status=200)
    assert may_retry(UpstreamRefused(inside))
    assert short_result(UpstreamRefused(inside)) == "529"
