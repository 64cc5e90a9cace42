"""What operators and status pages do, and what memory it takes."""

from __future__ import annotations

from providers.health import (
    AVOID_SECONDS,
    SUCCESS,
    Caller,
    Condition,
    HealthKey,
    failure,
    outcome_of,
)
from providers.health.avoidance import MAX_CONVERSATIONS
from providers.health.ledger import MAX_NARROW, MAX_PENDING
from providers.health.probes import MAX_WANTED
from tests.health_worker import (
    ALICE,
    ALL,
    BOB,
    DEFAULTS,
    DOWN,
    HOUR,
    NOW,
    OPUS,
    PRIMARY,
    SECOND,
    THIRD,
    Worker,
)


def test_an_operator_closes_and_reopens_a_provider() -> None:
    worker = Worker()
    worker.table.cool_down(2, NOW + HOUR, "maintenance", DEFAULTS, NOW)
    assert worker.allowed() == ["primary", "third"]
    worker.now += 600
    worker.grant(HealthKey(2))
    worker.providers = (SECOND, PRIMARY)
    assert not worker.decide().probe
    worker.table.reset(2, DEFAULTS, worker.now)
    assert worker.allowed() == ["second", "primary"]


def test_a_reset_lifts_everything_for_everyone() -> None:
    worker = Worker()
    worker.tell(worker.limit("seven_day_opus"))
    worker.tell(worker.limit(), caller=BOB)
    worker.tell(DOWN, times=7)
    worker.table.avoid(1, ALICE, worker.now + AVOID_SECONDS)
    worker.table.reset(1, DEFAULTS, worker.now)
    assert worker.allowed(ALICE) == worker.allowed(BOB) == ALL


def test_the_state_of_a_provider_through_its_troubles() -> None:
    worker = Worker()

    def condition() -> Condition:
        return worker.table.state_of(2, DEFAULTS, worker.now).condition

    assert condition() is Condition.HEALTHY
    worker.tell(failure("timed out", error="first byte limit of 120 s exceeded"), index=1)
    assert condition() is Condition.FAILING
    worker.tell(worker.limit(hours=1), index=1)
    assert condition() is Condition.COOLING_DOWN
    state = worker.table.state_of(2, DEFAULTS, worker.now)
    assert (state.until, state.reason, state.failures) == (NOW + HOUR, "5-hour limit", 1)
    assert (state.last_failure, state.last_success) == (NOW, None)
    worker.now += 300
    worker.providers = (SECOND, THIRD)
    worker.grant(HealthKey(2))
    probe = worker.decide()
    assert condition() is Condition.PROBING
    worker.record(probe, SUCCESS)
    assert condition() is Condition.HEALTHY
    assert worker.table.state_of(2, DEFAULTS, worker.now).last_success == worker.now


def test_the_state_of_a_provider_lists_what_is_closed_for_some() -> None:
    worker = Worker()
    worker.tell(worker.limit("seven_day_opus"))
    worker.tell(worker.limit(hours=1), caller=BOB)
    state = worker.table.state_of(1, DEFAULTS, NOW)
    assert state.condition is Condition.HEALTHY
    assert [(limit.key, limit.reason) for limit in state.limits] == [
        (HealthKey(1, "alice", OPUS), "7-day Opus limit"),
        (HealthKey(1, "bob"), "5-hour limit"),
    ]
    assert len(worker.table.state_of(1, DEFAULTS, NOW + 2 * HOUR).limits) == 1


def test_a_healthy_provider_is_not_written_down_on_every_call() -> None:
    worker = Worker()
    worker.tell(SUCCESS, times=100)
    assert len(worker.table.drain_changes()) == 1
    worker.now += 60
    worker.tell(SUCCESS, times=100)
    assert len(worker.table.drain_changes()) == 1


def test_memory_does_not_grow_with_clients_models_and_sessions() -> None:
    worker = Worker()
    table = worker.table
    bad = outcome_of(401, [], NOW, client_credentials=True)
    for number in range(max(MAX_NARROW, MAX_CONVERSATIONS, MAX_WANTED) + 100):
        caller = Caller(f"credential-{number}", f"session-{number}", "x" * 5000)
        worker.tell(bad, caller=caller, times=3)
        table.avoid(2, caller, worker.now + AVOID_SECONDS)
        worker.decide(caller=caller)
    assert len(table._ledger.narrow[1]) == MAX_NARROW
    assert len(table._ledger.cooling[1]) == MAX_NARROW
    assert len(table.avoidance) == MAX_CONVERSATIONS
    assert len(table._probes._wanted) == MAX_WANTED
    assert len(table._ledger._pending) == MAX_PENDING
    assert not worker.decide(caller=caller).allowed
    assert worker.decide(caller=Caller("credential-0")).allowed


def test_what_was_heard_of_last_is_kept_longest() -> None:
    worker = Worker()
    worker.tell(worker.limit(), caller=ALICE)
    for number in range(MAX_NARROW - 1):
        worker.tell(worker.limit(), caller=Caller(f"credential-{number}"))
    worker.tell(worker.limit(hours=6), caller=ALICE)
    worker.tell(worker.limit(), caller=BOB)
    assert not worker.decide(caller=ALICE).allowed
    assert worker.decide(caller=Caller("credential-0")).allowed


def test_a_very_long_model_name_is_cut_but_found_again() -> None:
    worker = Worker(model="m" * 100_000)
    worker.tell(worker.retry_after(60))
    assert worker.allowed() == ["second", "third"]
    assert all(len(event.key.model) <= 200 for event in worker.table.drain_changes())
