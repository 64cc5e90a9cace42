"""What Prometheus is told at /metrics, by a worker in this process."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as configured
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.parser import text_string_to_metric_families

from providers.health import HealthKey, HealthRow, describe
from providers.routing import Settings
from proxy.history.records import CallRecord
from proxy.metrics import (
    attempts,
    calls,
    duration,
    exposition,
    falls,
    first_byte,
    observe,
    rows_lost,
    tokens,
)
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
from tests.raw_http import Reply
from tests.upstreams import (
    BLOCK,
    START,
    FakeProvider,
    Then,
    ok,
    rate_limited,
    refuse,
    stream,
    used_up,
)

pytestmark = WITH_DATABASE

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
HOUR = 3600


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scrape(proxy: Proxy, **arguments: Any) -> Reply:
    headers = [("authorization", f"Bearer {proxy.token}")]
    return await proxy.call(method="GET", **{"target": "/metrics", "headers": headers, **arguments})


class Figures:
    """What has been added since: other tests count in the same process."""

    def __init__(self, before: Samples, after: Samples) -> None:
        self._before, self._after = before, after

    def __call__(self, name: str, **labels: str) -> float:
        key = name, frozenset(labels.items())
        return self._after.get(key, 0.0) - self._before.get(key, 0.0)


async def counted(proxy: Proxy, before: Samples, calls: int) -> Figures:
    """The figures as soon as so many calls are in them."""
    found: Figures | None = None

    async def there() -> bool:
        nonlocal found
        after = samples((await scrape(proxy)).body.decode())
        total = sum(v for (name, _), v in after.items() if name == "ccf_calls_total")
        total -= sum(v for (name, _), v in before.items() if name == "ccf_calls_total")
        found = Figures(before, after)
        return total == calls

    await until(there, f"{calls} calls are counted")
    assert found is not None
    return found


async def test_it_needs_a_token_and_says_nothing_else_to_others() -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        for headers in ([], [("authorization", "Bearer sk-ccf-wrong")]):
            answer = await scrape(proxy, headers=headers)
            assert (answer.status, answer.error_type) == (401, "authentication_error")
        answer = await scrape(proxy)
        assert answer.status == 200
        assert answer["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert (await proxy.call(target="/metrics")).status == 404
        assert up.requests == []


async def test_it_needs_none_where_the_operator_says_so(settings: Any) -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        settings.METRICS_PUBLIC = True
        assert (await scrape(proxy, headers=[])).status == 200
        assert (await proxy.call(method="GET", target="/v1/ccf/status", headers=[])).status == 401


def test_the_documentation_names_every_metric_and_its_labels() -> None:
    page = (Path(configured.BASE_DIR) / "docs" / "deployment.md").read_text()
    rows = re.findall(r"^\| `(ccf_\w+)` \| ([^|]*) \|", page, re.MULTILINE)
    documented = {
        name.removesuffix("_total"): set(re.findall(r"`(\w+)`", labels)) for name, labels in rows
    }
    told = {
        family.name: set(counted._labelnames)
        for counted in (calls, falls, attempts, tokens, first_byte, duration, rows_lost)
        for family in counted.collect()
    }
    state = describe(HealthRow(HealthKey(1)), Settings(), 0.0)
    health = exposition([("one", state)], 0.0).decode()
    for family in text_string_to_metric_families(health):
        if family.name.startswith("ccf_provider_"):
            told[family.name] = set(family.samples[0].labels)
    assert documented == told


async def test_calls_attempts_tokens_and_times_are_counted() -> None:
    broken = stream(START, BLOCK, Then.CUT)
    async with FakeProvider(ok(), refuse(529), broken, refuse(529)) as up:
        async with FakeProvider(ok(), refuse(500)) as other, running_proxy() as idle:
            before = samples((await scrape(idle)).body.decode())
            async with running_proxy(primary(up), fallback(other)) as proxy:
                for _ in range(4):
                    await proxy.call()
                await proxy.call(target="/v1/messages/count_tokens")
                await proxy.call(b"{}")
                figure = await counted(proxy, before, 6)

    def call(outcome: str, provider: str, endpoint: str = "messages") -> float:
        return figure("ccf_calls_total", endpoint=endpoint, outcome=outcome, provider=provider)

    assert call("answered", "anthropic-primary") == 1
    assert call("answered", "openrouter") == 1
    assert call("broken", "anthropic-primary") == 1
    assert call("failed", "") == 1
    assert call("refused", "") == 1
    assert figure("ccf_falls_over_total", provider="openrouter") == 1
    assert figure("ccf_falls_over_total", provider="anthropic-primary") == 0
    for provider, result, number in (
        ("anthropic-primary", "200", 2),
        ("anthropic-primary", "529", 2),
        ("openrouter", "200", 1),
        ("openrouter", "500", 1),
    ):
        assert figure("ccf_attempts_total", provider=provider, result=result) == number
    for kind, number in (("input", 11), ("output", 44), ("cache_read", 22), ("cache_creation", 33)):
        assert figure("ccf_tokens_total", provider="openrouter", kind=kind) == number
    assert figure("ccf_first_byte_seconds_count", provider="anthropic-primary") == 2
    assert figure("ccf_first_byte_seconds_bucket", provider="openrouter", le="+Inf") == 1
    assert figure("ccf_call_duration_seconds_count", provider="") == 2
    assert figure("ccf_call_duration_seconds_sum", provider="openrouter") > 0


async def test_the_health_of_providers_is_told() -> None:
    clock = Clock()
    async with (
        FakeProvider(used_up(clock.now + HOUR)) as up,
        FakeProvider(refuse(500)) as down,
        FakeProvider(rate_limited(600)) as limited,
        FakeProvider(ok()) as other,
    ):
        providers = (
            primary(up),
            fallback(down, "down"),
            fallback(limited, "limited"),
            fallback(other),
        )
        settings = {"max_cooldown": 300}
        async with running_proxy(*providers, settings=settings, clock=clock) as proxy:
            for _ in range(3):
                await proxy.call()
            clock.advance(10)
            found = samples((await scrape(proxy)).body.decode())

    def value(name: str, **labels: str) -> float:
        return found[name, frozenset(labels.items())]

    for name, available, seconds in (
        ("anthropic-primary", 1, 0),
        ("down", 0, 20),
        ("limited", 1, 0),
        ("openrouter", 1, 0),
    ):
        assert value("ccf_provider_available", provider=name) == available
        assert value("ccf_provider_return_seconds", provider=name) == seconds
    assert value("ccf_provider_limits", provider="anthropic-primary", scope="credential") == 1
    assert value("ccf_provider_limits", provider="limited", scope="model") == 1
    assert value("ccf_provider_limits", provider="openrouter", scope="model") == 0


async def test_models_sessions_and_tokens_are_no_labels() -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        before = samples((await scrape(proxy)).body.decode())
        extra = [("x-claude-code-session-id", "session-secret")]
        for number in range(3):
            await proxy.call(body_of(model=f"model-secret-{number}"), extra=extra)
        await proxy.call(method="GET", target="/v1/files/file-secret")
        await counted(proxy, before, 4)
        text = (await scrape(proxy)).body.decode()
        assert "secret" not in text and "the test's client" not in text


async def test_rows_that_are_lost_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        before = samples((await scrape(proxy)).body.decode())
        monkeypatch.setattr(proxy.runtime.logbook, "_capacity", 0)
        await proxy.call()
        await until(lambda: proxy.runtime.logbook.lost == 1, "it is lost")
        after = samples((await scrape(proxy)).body.decode())
        assert Figures(before, after)("ccf_log_rows_lost_total") == 1


async def test_absurd_figures_do_not_stop_the_history() -> None:
    kept: list[CallRecord] = []
    record = CallRecord("r", "/v1/messages", "", "", "", 0, kept.append)
    record.usage.input = 10**400
    record.finish("answered")
    observe(kept)


async def test_a_fault_of_the_figures_costs_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(records: list[CallRecord]) -> None:
        raise OSError("no space left")

    async with FakeProvider(ok()) as up, running_proxy(primary(up)) as proxy:
        monkeypatch.setattr("proxy.metrics.observe", broken)
        for _ in range(2):
            await proxy.call()
            await proxy.log(1)
        assert len(await proxy.log(2)) == 2


def test_a_worker_that_makes_its_files_at_this_moment_stops_nobody_from_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    values = MmapedDict(str(tmp_path / "counter_1.db"))  # type: ignore[no-untyped-call]
    key = mmap_key("ccf_log_rows_lost", "ccf_log_rows_lost_total", [], [], "Lost.")
    values.write_value(key, 3.0, 0.0)  # type: ignore[no-untyped-call]
    (tmp_path / "counter_2.db").touch()
    found = samples(exposition([], 0.0).decode())
    values.close()  # type: ignore[no-untyped-call]
    assert found["ccf_log_rows_lost_total", frozenset()] == 3
