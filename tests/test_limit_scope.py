"""Whom a limit or a failure closes a provider for: everyone, one credential or one model."""

from __future__ import annotations

import pytest

from providers.health import (
    SUCCESS,
    Caller,
    Outcome,
    outcome_of,
)
from tests.health_worker import (
    ALICE,
    ALL,
    BOB,
    DEFAULTS,
    HOUR,
    NOW,
    OPUS,
    SECOND,
    SONNET,
    THIRD,
    Worker,
)


@pytest.mark.parametrize("claim", ["five_hour", "seven_day"])
def test_a_limit_of_a_credential_closes_all_models_for_that_credential_alone(claim: str) -> None:
    worker = Worker()
    worker.tell(worker.limit(claim))
    assert worker.allowed(ALICE, OPUS) == worker.allowed(ALICE, SONNET) == ["second", "third"]
    assert worker.allowed(BOB, OPUS) == ALL


def test_a_limit_of_a_model_closes_that_model_alone() -> None:
    worker = Worker()
    worker.tell(worker.limit("seven_day_opus"), model=OPUS)
    assert worker.allowed(ALICE, OPUS) == ["second", "third"]
    assert worker.allowed(ALICE, SONNET) == worker.allowed(BOB, OPUS) == ALL
    assert worker.decide().reason == "7-day Opus limit"


def test_a_plain_429_of_a_provider_with_its_own_key_closes_the_model_for_everyone() -> None:
    worker = Worker()
    worker.tell(worker.retry_after(60), index=1)
    assert worker.allowed(ALICE, OPUS) == worker.allowed(BOB, OPUS) == ["primary", "third"]
    assert worker.allowed(ALICE, SONNET) == ALL


def test_a_limit_of_a_providers_own_key_closes_it_for_everyone() -> None:
    worker = Worker()
    worker.tell(worker.limit(), index=1)
    assert worker.allowed(BOB, SONNET) == ["primary", "third"]


@pytest.mark.parametrize(
    "outcome", [outcome_of(429, [], NOW), outcome_of(429, [(b"retry-after", b"60")], NOW)]
)
def test_429s_of_one_client_never_close_the_primary_for_others(outcome: Outcome) -> None:
    worker = Worker()
    worker.tell(outcome, times=30)
    assert worker.allowed(ALICE) == ["second", "third"]
    assert worker.allowed(BOB) == worker.allowed(ALICE, SONNET) == ALL
    assert worker.table.state_of(1, DEFAULTS, NOW).failures == 0


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_client_with_bad_credentials_closes_the_primary_for_itself_alone(status: int) -> None:
    worker = Worker()
    worker.tell(outcome_of(status, [], NOW, client_credentials=True), times=10)
    assert worker.allowed(ALICE) == worker.allowed(ALICE, SONNET) == ["second", "third"]
    assert worker.allowed(BOB) == ALL
    assert worker.decide().reason == f"10 failures in a row ({status})"


def test_a_rejected_key_of_our_own_closes_the_provider() -> None:
    worker = Worker()
    worker.tell(outcome_of(401, [], NOW), index=1, times=3)
    assert worker.allowed(BOB) == ["primary", "third"]


def test_an_overloaded_primary_is_closed_for_everyone_for_the_time_it_names() -> None:
    worker = Worker()
    worker.tell(worker.retry_after(40, status=529))
    assert worker.allowed(BOB, SONNET) == ["second", "third"]
    worker.now += 40
    assert worker.allowed(BOB) == ALL


def test_an_overloaded_provider_that_asks_for_a_second_at_a_time_reaches_the_tiers() -> None:
    worker = Worker()
    for _ in range(3):
        worker.tell(worker.retry_after(1, status=503), index=1)
        worker.now += 1
    assert worker.allowed() == ["primary", "third"]
    assert worker.decide(1).reason == "3 failures in a row (503)"


@pytest.mark.parametrize(
    ("caller", "model"), [(BOB, OPUS), (ALICE, SONNET)], ids=["credential", "model"]
)
def test_a_success_of_another_credential_or_model_lifts_nothing(caller: Caller, model: str) -> None:
    worker = Worker()
    worker.tell(worker.limit("seven_day_opus"))
    worker.now += 60
    worker.tell(SUCCESS, caller=caller, model=model)
    assert worker.allowed(ALICE, OPUS) == ["second", "third"]


def test_answers_that_were_under_way_when_the_quota_ran_out_do_not_lift_the_limit() -> None:
    worker = Worker()
    in_flight = worker.decide()
    worker.now += 5
    worker.tell(worker.limit())
    worker.now += 60
    worker.record(in_flight, SUCCESS)
    assert worker.allowed() == ["second", "third"]


def test_clients_without_credentials_share_one_entry_of_their_own() -> None:
    worker = Worker()
    worker.tell(worker.limit(), caller=Caller())
    assert worker.allowed(Caller()) == ["second", "third"]
    assert worker.allowed(BOB) == ALL


@pytest.mark.parametrize(
    ("of_key", "of_model", "reason"),
    [(1, 50, "7-day Opus limit"), (50, 1, "5-hour limit")],
)
def test_a_target_is_closed_until_the_last_of_its_limits_ends(
    of_key: float, of_model: float, reason: str
) -> None:
    worker = Worker(SECOND, THIRD)
    attempts = [worker.decide(), worker.decide()]
    worker.record(attempts[0], worker.limit("five_hour", hours=of_key))
    worker.record(attempts[1], worker.limit("seven_day_opus", hours=of_model))
    assert (worker.decide().until, worker.decide().reason) == (NOW + 50 * HOUR, reason)
