"""An installation that has been at work for a week: for the pictures, and for looking at pages."""

from __future__ import annotations

import random
from collections.abc import Iterator

from django.contrib.auth.models import User

from providers.models import AccessToken, LearnedFact, ModelMapping, Provider, ProviderHealth
from proxy.history.records import AttemptRecord, CallRecord
from proxy.history.rows import write_rows
from proxy.usage import Usage

PASSWORD = "only-for-tests"
MODELS = ("claude-opus-4-8", "claude-sonnet-5", "claude-sonnet-5", "claude-haiku-4-5")
LIMIT = {
    "request-id": "req_011CSHoEeqs5C35K2UUqR7Fy",
    "retry-after": "4210",
    "x-should-retry": "false",
    "anthropic-ratelimit-unified-status": "rejected",
    "anthropic-ratelimit-unified-representative-claim": "five_hour",
    "anthropic-ratelimit-unified-5h-utilization": "1.0",
}


def fill(now: float, *, calls: int = 900) -> None:
    """Users, providers with their health, a week of calls, a learned fact."""
    User.objects.create_superuser("admin", password=PASSWORD)
    primary, openrouter, kimi = _providers()
    ProviderHealth.objects.create(
        provider=primary, cause="limit", reason="5-hour limit", since=now - 1800,
        until=now + 4210, last_failure=now - 60, last_error="5-hour limit reached", failures=0,
    )  # fmt: skip
    ProviderHealth.objects.create(provider=openrouter, last_success=now - 4)
    ProviderHealth.objects.create(
        provider=kimi, failures=2, last_failure=now - 130, last_error="overloaded, try again later"
    )
    LearnedFact.objects.create(
        provider=openrouter, model="anthropic/claude-opus-4.8", key="supports_top_k", value=False,
        repair="openai_drop_top_k", expires=now + 6 * 86400,
    )  # fmt: skip
    AccessToken.issue("laptop")
    chance = random.Random(7)
    write_rows(_calls(now, calls, chance))


def _providers() -> list[Provider]:
    primary = Provider.objects.get(name="anthropic-primary")
    openrouter = Provider.objects.create(
        name="openrouter", position=1, base_url="https://openrouter.ai/api",
        api_key="sk-or-v1-demo-1234", auth_header="Authorization",
    )  # fmt: skip
    kimi = Provider.objects.create(
        name="kimi",
        position=2,
        base_url="https://api.moonshot.ai/anthropic",
        api_key="sk-kimi-demo-5678",
    )
    Provider.objects.create(
        name="vllm in the cellar", position=3, base_url="http://10.0.0.7:8000", format="openai",
        api_key="unused-but-set", enabled=False,
    )  # fmt: skip
    ModelMapping.objects.create(
        provider=openrouter, source="claude-*", target="anthropic/claude-opus-4.8"
    )
    ModelMapping.objects.create(provider=kimi, source="claude-*", target="kimi-k3")
    return [primary, openrouter, kimi]


def _calls(now: float, calls: int, chance: random.Random) -> Iterator[CallRecord]:
    for number in range(calls):
        ago = 7 * 86400 * (1 - (number + 1) / calls) ** 1.6
        ago += chance.random() * 30
        yield _call(number, now - ago, ago < 1800, chance)


def _call(number: int, moment: float, limited: bool, chance: random.Random) -> CallRecord:
    model = chance.choice(MODELS)
    record = CallRecord(
        request_id=f"req_demo{number:06}",
        path="/v1/messages" if chance.random() < 0.95 else "/v1/messages/count_tokens",
        session_id=f"5e55{number // 12:04}-8d2c-4f7e-9a51-6b1f0c9d2e44",
        agent_id="",
        token="laptop" if chance.random() < 0.7 else "build server",
        bytes_in=chance.randrange(48_000, 190_000),
        keep=lambda record: None,
        model=model,
        stream=True,
        time=moment,
    )
    steps = _steps(limited, chance)
    clock = 0.002
    for provider, status, seconds in steps:
        attempt = AttemptRecord(provider, _sent(provider, model), started=clock, duration=seconds)
        attempt.status, attempt.result = status, str(status)
        attempt.headers = {"request-id": f"req_{number:05}", "content-type": "text/event-stream"}
        if status == 429:
            attempt.error_type, attempt.error_message = (
                "rate_limit_error",
                "You have reached your limit.",
            )
            attempt.headers = LIMIT
        elif status == 529:
            attempt.error_type, attempt.error_message = "overloaded_error", "Overloaded"
        elif provider == "openrouter":
            attempt.kind = "repaired"
            attempt.repairs = [
                {"name": "thinking_signature", "changes": [
                    {"path": "messages.3.content.0", "op": "removed", "bytes": 1804},
                    {"path": "thinking.type", "op": "changed", "bytes": 10},
                ]}
            ]  # fmt: skip
        clock += seconds
        record.attempts.append(attempt)
    provider, status, _seconds = steps[-1]
    record.duration = clock + chance.random() * 40
    record.status = status
    if status == 200:
        record.provider, record.model_sent = provider, _sent(provider, model)
        record.first_byte = clock
        record.usage = Usage(
            chance.randrange(20, 4000), chance.randrange(40, 3000), chance.randrange(0, 90_000), 800
        )
        record.outcome = "answered" if chance.random() < 0.97 else "cancelled"
        record.bytes_out = chance.randrange(2_000, 60_000)
    else:
        record.outcome, record.error = "failed", "Overloaded"
    return record


def _steps(limited: bool, chance: random.Random) -> list[tuple[str, int, float]]:
    answer = 0.4 + chance.random() * 1.9
    if limited or chance.random() < 0.06:
        if chance.random() < 0.14:
            last = 200 if chance.random() < 0.6 else 529
            return [
                ("anthropic-primary", 429, 0.19),
                ("openrouter", 529, 0.8),
                ("kimi", last, answer),
            ]
        return [("anthropic-primary", 429, 0.19), ("openrouter", 200, answer + 0.5)]
    return [("anthropic-primary", 200, answer)]


def _sent(provider: str, model: str) -> str:
    return {"openrouter": "anthropic/claude-opus-4.8", "kimi": "kimi-k3"}.get(provider, model)
