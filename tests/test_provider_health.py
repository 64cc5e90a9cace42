"""May a provider be asked, and what follows from how it went: one worker, one table."""

from __future__ import annotations

import pytest

from providers.health import (
    CANCELLED,
    IGNORED,
    SUCCESS,
    Outcome,
    outcome_of,
)
from providers.routing import Settings
from tests.health_worker import (
    ALL,
    DEFAULTS,
    DOWN,
    NOW,
    PRIMARY,
    SECOND,
    THIRD,
    Worker,
)


def test_everyone_is_asked_in_order_when_nothing_is_known() -> None:
    decisions = Worker().admit()
    assert [(d.target.name, d.allowed, d.reason) for d in decisions] == [(n, True, "") for n in ALL]


def test_three_failures_in_a_row_close_a_provider_for_the_next_call_at_once() -> None:
    worker = Worker()
    worker.tell(DOWN, index=1, times=2)
    assert worker.allowed() == ALL
    worker.tell(DOWN, index=1)
    assert worker.allowed() == ["primary", "third"]
    skipped = worker.decide(1)
    assert (skipped.reason, skipped.until) == ("3 failures in a row (529)", NOW + 30)
    worker.now += 30
    assert worker.allowed() == ALL


def test_a_success_between_failures_starts_the_count_again() -> None:
    worker = Worker()
    for outcome in (DOWN, DOWN, SUCCESS, DOWN, DOWN):
        worker.now += 1
        worker.tell(outcome)
    assert worker.allowed() == ALL


def test_a_success_reopens_what_is_cooling_down() -> None:
    worker = Worker()
    in_flight = worker.decide(1)
    worker.tell(DOWN, index=1, times=5)
    worker.now += 1
    worker.record(in_flight, SUCCESS)
    assert worker.allowed() == ALL


def test_one_decision_counts_once() -> None:
    worker = Worker()
    decision = worker.decide(1)
    for _ in range(5):
        worker.record(decision, DOWN)
    assert worker.table.state_of(2, DEFAULTS, NOW).failures == 1


@pytest.mark.parametrize(
    "outcome", [IGNORED, CANCELLED, *(outcome_of(s, [], NOW) for s in (400, 404, 413, 422))]
)
def test_what_says_nothing_about_the_provider_counts_for_nothing(outcome: Outcome) -> None:
    worker = Worker()
    worker.tell(outcome, index=1, times=20)
    assert worker.allowed() == ALL
    assert worker.table.drain_changes() == []


def test_a_maximum_of_zero_means_no_cooldowns_at_all() -> None:
    worker = Worker(settings=Settings(max_cooldown=0))
    worker.tell(DOWN, index=1, times=20)
    worker.tell(worker.limit())
    assert worker.allowed() == ALL


def test_failures_never_close_the_only_provider() -> None:
    worker = Worker(SECOND)
    worker.tell(DOWN, times=20)
    decision = worker.decide()
    assert (decision.allowed, decision.safety_valve) == (True, False)


def test_failures_of_the_only_provider_close_it_when_there_is_another() -> None:
    worker = Worker(SECOND)
    worker.tell(DOWN, times=4)
    worker.providers = (SECOND, THIRD)
    assert worker.allowed() == ["second", "third"]
    worker.tell(DOWN)
    assert worker.allowed() == ["third"]


def test_a_provider_that_is_cooling_down_is_asked_when_the_others_are_gone() -> None:
    worker = Worker()
    worker.tell(DOWN, index=1, times=5)
    worker.providers = (SECOND,)
    decision = worker.decide()
    assert (decision.allowed, decision.safety_valve) == (True, False)


def test_a_limit_of_the_only_provider_opens_the_safety_valve() -> None:
    worker = Worker(PRIMARY)
    worker.tell(worker.limit())
    decision = worker.decide()
    assert (decision.allowed, decision.safety_valve, decision.probe) == (True, True, False)
    assert decision.reason == "5-hour limit"


def test_when_all_cool_down_only_the_one_that_is_back_soonest_is_asked() -> None:
    worker = Worker()
    worker.tell(worker.limit(hours=5))
    worker.tell(DOWN, index=2, times=3)
    worker.tell(DOWN, index=1, times=5)
    decisions = worker.admit()
    assert [(d.allowed, d.safety_valve) for d in decisions] == [
        (False, False),
        (False, False),
        (True, True),
    ]


def test_a_success_through_the_safety_valve_reopens_the_provider() -> None:
    worker = Worker(PRIMARY, SECOND)
    worker.tell(worker.limit(hours=1))
    worker.tell(worker.retry_after(7200), index=1)
    worker.now += 60
    valve = worker.decide(0)
    assert valve.safety_valve
    worker.record(valve, SUCCESS)
    assert worker.allowed() == ["primary"]
