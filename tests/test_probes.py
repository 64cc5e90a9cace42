"""Back early: one real request now and then asks whether a long cooldown is over."""

from __future__ import annotations

import pytest

from providers.health import (
    CANCELLED,
    IGNORED,
    SUCCESS,
    Condition,
    HealthKey,
    Outcome,
    outcome_of,
)
from tests.health_worker import (
    ALICE,
    ALICES,
    ALL,
    BOB,
    DEFAULTS,
    DOWN,
    HOUR,
    NOW,
    OPUS,
    PRIMARY,
    SECOND,
    Worker,
    limited,
)


def test_nothing_is_probed_without_a_lease() -> None:
    worker = limited()
    assert worker.allowed() == ["second", "third"]


def test_a_lease_lets_one_real_request_through_and_the_next_provider_stays_open() -> None:
    worker = limited()
    worker.grant(ALICES)
    first, second = worker.admit(), worker.admit()
    assert [(d.allowed, d.probe) for d in first] == [(True, True), (True, False), (True, False)]
    assert (first[0].reason, first[0].until) == ("5-hour limit", NOW + 5 * HOUR)
    assert [d.allowed for d in second] == [False, True, True]


def test_a_probe_that_succeeds_reopens_at_once() -> None:
    worker = limited()
    worker.grant(ALICES)
    worker.tell(SUCCESS)
    assert worker.decide().allowed
    assert not worker.decide().probe


@pytest.mark.parametrize(
    "outcome",
    [
        DOWN,
        outcome_of(401, [], NOW, client_credentials=True),
        outcome_of(429, [(b"retry-after", b"600000")], NOW),
        outcome_of(529, [(b"retry-after", b"600000")], NOW),
    ],
)
def test_a_failed_probe_lengthens_nothing_and_counts_for_nothing(outcome: Outcome) -> None:
    worker = limited()
    worker.grant(ALICES)
    worker.tell(outcome)
    assert worker.decide().until == NOW + 5 * HOUR
    assert worker.table.state_of(1, DEFAULTS, worker.now).failures == 0
    assert worker.allowed(BOB) == ALL
    worker.grant(ALICES)
    assert not worker.decide().allowed  # the next interval has to pass first
    worker.now += 300
    worker.grant(ALICES)
    assert worker.decide().probe


@pytest.mark.parametrize("outcome", [CANCELLED, IGNORED])
def test_a_probe_that_proved_nothing_is_given_back(outcome: Outcome) -> None:
    worker = limited()
    worker.decide()
    assert worker.table.probes_due(DEFAULTS, worker.now) == [ALICES]
    worker.grant(ALICES)
    probe = worker.decide()
    worker.decide()
    assert worker.table.probes_due(DEFAULTS, worker.now) == []
    worker.record(probe, outcome)
    assert worker.table.probes_due(DEFAULTS, worker.now) == [ALICES]


def test_a_call_that_crashed_gives_its_probe_back() -> None:
    worker = limited()
    worker.grant(ALICES)
    probe = worker.decide()
    worker.table.release(probe)
    worker.table.release(probe)
    worker.decide()
    assert worker.table.probes_due(DEFAULTS, worker.now) == [ALICES]


def test_releasing_what_was_recorded_changes_nothing() -> None:
    worker = limited()
    worker.grant(ALICES)
    probe = worker.decide()
    worker.record(probe, DOWN)
    changes = len(worker.table.drain_changes())
    worker.table.release(probe)
    assert changes
    assert worker.table.drain_changes() == []


def test_what_is_learnt_after_the_probe_was_released_can_only_help() -> None:
    worker = limited()
    worker.grant(ALICES)
    failing = worker.decide()
    worker.table.release(failing)
    worker.record(failing, worker.limit(hours=100))
    assert worker.decide().until == NOW + 5 * HOUR
    worker.grant(ALICES)
    working = worker.decide()
    worker.table.release(working)
    worker.record(working, SUCCESS)
    assert worker.allowed() == ALL


def test_a_lease_granted_while_a_probe_is_under_way_is_not_a_second_one() -> None:
    worker = limited()
    worker.grant(ALICES)
    probe = worker.decide()
    worker.grant(ALICES)
    assert not worker.decide().allowed
    worker.record(probe, CANCELLED)
    assert not worker.decide().allowed
    worker.grant(ALICES)
    assert worker.decide().probe


def test_a_probe_that_was_lost_without_a_word_blocks_no_other_for_ever() -> None:
    worker = limited()
    worker.grant(ALICES)
    assert worker.decide().probe
    worker.now += 901
    worker.decide()
    assert worker.table.probes_due(DEFAULTS, worker.now) == [ALICES]
    worker.grant(ALICES)
    assert worker.decide().probe


def test_without_further_calls_no_further_probe_is_asked_for() -> None:
    worker = limited()
    worker.decide()
    worker.grant(ALICES)
    worker.tell(DOWN)
    worker.now += 300
    assert worker.table.probes_due(DEFAULTS, worker.now) == []


def test_a_probe_that_succeeds_against_a_newer_limit_still_gives_its_lease_back() -> None:
    worker = limited()
    in_flight = worker.decide(caller=BOB)
    worker.grant(ALICES)
    probe = worker.decide()
    worker.now += 1
    worker.record(in_flight, worker.limit(hours=7))
    worker.now += 1
    worker.record(probe, SUCCESS)
    assert not worker.decide().allowed
    assert worker.table.state_of(1, DEFAULTS, worker.now).limits[0].condition is (
        Condition.COOLING_DOWN
    )


def test_a_lease_that_is_about_to_run_out_is_not_used() -> None:
    worker = limited()
    worker.table.grant_probe(ALICES, worker.now + 5)
    assert not worker.decide().allowed


def test_a_lease_is_no_use_before_the_interval_has_passed() -> None:
    worker = Worker()
    worker.tell(worker.limit())
    worker.now += 299
    worker.grant(ALICES)
    assert not worker.decide().allowed


def test_a_target_that_two_limits_close_needs_the_leases_of_both() -> None:
    worker = Worker()
    model = HealthKey(1, "alice", OPUS)
    both = [worker.decide(), worker.decide()]
    worker.record(both[0], worker.limit("five_hour", hours=5))
    worker.record(both[1], worker.limit("seven_day_opus", hours=50))
    assert worker.decide().reason == "7-day Opus limit"
    worker.now += 300
    worker.decide()
    assert set(worker.table.probes_due(DEFAULTS, worker.now)) == {ALICES, model}
    worker.grant(ALICES)
    assert not worker.decide().allowed
    worker.grant(model)
    worker.tell(SUCCESS)
    assert worker.allowed() == ALL


def test_a_lease_of_one_credential_is_not_used_by_another() -> None:
    worker = limited()
    worker.tell(worker.limit(), caller=BOB)
    worker.now += 300
    worker.grant(ALICES)
    assert not worker.decide(caller=BOB).allowed
    assert worker.decide(caller=ALICE).probe


def test_calls_that_test_nothing_leave_the_probe_to_others() -> None:
    worker = limited()
    worker.grant(ALICES)
    assert not worker.admit(may_probe=False)[0].allowed
    assert worker.decide().probe


def test_a_provider_behind_an_open_one_is_not_probed() -> None:
    worker = Worker()
    worker.tell(worker.limit(), index=1)
    worker.now += 300
    worker.grant(HealthKey(2))
    assert [(d.allowed, d.probe) for d in worker.admit()][1] == (False, False)
    assert worker.table.probes_due(DEFAULTS, worker.now) == []


def test_a_probe_may_go_before_the_safety_valve() -> None:
    worker = Worker(PRIMARY, SECOND)
    worker.tell(worker.limit(hours=5))
    worker.tell(worker.limit(hours=1), index=1)
    worker.now += 300
    worker.grant(ALICES)
    primary, second = worker.admit()
    assert (primary.allowed, primary.probe, primary.safety_valve) == (True, True, False)
    assert (second.allowed, second.probe, second.safety_valve) == (True, False, True)


def test_a_worker_whose_calls_never_met_the_cooldown_asks_for_no_lease() -> None:
    worker = limited()
    assert worker.table.probes_due(DEFAULTS, worker.now) == []
    worker.decide()
    assert worker.table.probes_due(DEFAULTS, worker.now) == [ALICES]
    worker.grant(ALICES)
    assert worker.table.probes_due(DEFAULTS, worker.now) == []
    assert worker.table.probes_due(DEFAULTS, worker.now + 31) == [ALICES]
