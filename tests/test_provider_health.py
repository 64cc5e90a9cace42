"""May a provider be asked, and what follows from how it went: one worker, one table."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from providers.health import (
    AVOID_SECONDS,
    CANCELLED,
    IGNORED,
    SUCCESS,
    Caller,
    Condition,
    Decision,
    HealthKey,
    HealthTable,
    Outcome,
    failure,
    outcome_of,
)
from providers.health.avoidance import MAX_CONVERSATIONS
from providers.health.ledger import MAX_NARROW, MAX_PENDING
from providers.health.probes import MAX_WANTED
from providers.routing import Credentials, ProviderSpec, Settings, Target

NOW = 1_760_000_000.0
HOUR = 3600.0
DEFAULTS = Settings()
OPUS, SONNET = "claude-opus-4-5", "claude-sonnet-4-5"

PRIMARY = ProviderSpec(1, "primary", "https://one.example", credentials=Credentials.CLIENT)
SECOND = ProviderSpec(2, "second", "https://two.example")
THIRD = ProviderSpec(3, "third", "https://three.example")
ALICE = Caller("alice", "session-a", "")
BOB = Caller("bob", "session-b", "")
DOWN = failure("529", status=529)


class Worker:
    """A table with a clock that is set by hand and a list of providers."""

    def __init__(
        self, *providers: ProviderSpec, settings: Settings = DEFAULTS, model: str = OPUS
    ) -> None:
        self.table = HealthTable()
        self.providers = providers or (PRIMARY, SECOND, THIRD)
        self.settings = settings
        self.model = model
        self.now = NOW

    def admit(
        self, caller: Caller = ALICE, model: str = "", *, may_probe: bool = True
    ) -> list[Decision]:
        targets = [Target(provider, model or self.model) for provider in self.providers]
        return self.table.admit(targets, caller, self.settings, self.now, may_probe=may_probe)

    def decide(self, index: int = 0, caller: Caller = ALICE, model: str = "") -> Decision:
        return self.admit(caller, model)[index]

    def allowed(self, caller: Caller = ALICE, model: str = "") -> list[str]:
        decisions = self.admit(caller, model)
        for decision in decisions:
            self.table.release(decision)
        return [decision.target.name for decision in decisions if decision.allowed]

    def record(self, decision: Decision, outcome: Outcome, caller: Caller = ALICE) -> None:
        self.table.record(decision, caller, outcome, self.settings, self.now)

    def tell(
        self,
        outcome: Outcome,
        index: int = 0,
        caller: Caller = ALICE,
        times: int = 1,
        model: str = "",
    ) -> None:
        for _ in range(times):
            self.record(self.decide(index, caller, model), outcome, caller)

    def grant(self, key: HealthKey) -> None:
        self.table.grant_probe(key, self.now + 30)

    def answer(self, status: int, headers: Sequence[tuple[bytes, bytes]] = ()) -> Outcome:
        return outcome_of(status, headers, self.now)

    def limit(self, claim: str = "five_hour", hours: float = 5) -> Outcome:
        prefix = b"anthropic-ratelimit-unified-"
        return self.answer(
            429,
            [
                (prefix + b"status", b"rejected"),
                (prefix + b"representative-claim", claim.encode()),
                (prefix + b"reset", str(int(self.now + hours * HOUR)).encode()),
            ],
        )

    def retry_after(self, seconds: int, status: int = 429) -> Outcome:
        return self.answer(status, [(b"retry-after", str(seconds).encode())])


ALL = ["primary", "second", "third"]
ALICES = HealthKey(1, "alice")


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


# The only provider


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


# The safety valve


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


# Scope


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


# Probes


def limited() -> Worker:
    """Alice's subscription is used up for five hours; one interval has passed."""
    worker = Worker()
    worker.tell(worker.limit())
    worker.now += 300
    return worker


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


# Mid-stream handoff


def test_a_session_avoids_the_provider_whose_stream_died() -> None:
    worker = Worker()
    worker.table.avoid(1, ALICE, worker.now + AVOID_SECONDS)
    assert worker.allowed(ALICE) == ["second", "third"]
    avoided = worker.decide()
    assert (avoided.avoided, avoided.until) == (True, NOW + AVOID_SECONDS)
    assert "stream" in avoided.reason
    worker.now += AVOID_SECONDS
    assert worker.allowed(ALICE) == ALL


@pytest.mark.parametrize(
    "other",
    [Caller("alice", "session-b", ""), Caller("alice", "session-a", "agent-1"), BOB],
    ids=["session", "agent", "caller"],
)
def test_other_sessions_and_agents_do_not_avoid_it(other: Caller) -> None:
    worker = Worker()
    worker.table.avoid(1, ALICE, worker.now + AVOID_SECONDS)
    assert worker.allowed(other) == ALL


def test_without_a_session_nothing_is_avoided() -> None:
    worker = Worker()
    worker.table.avoid(1, Caller("alice"), worker.now + AVOID_SECONDS)
    assert worker.allowed(Caller("alice")) == ALL


def test_a_session_that_would_avoid_everyone_avoids_no_one() -> None:
    worker = Worker(PRIMARY, SECOND)
    for provider in (1, 2):
        worker.table.avoid(provider, ALICE, worker.now + AVOID_SECONDS)
    assert worker.allowed(ALICE) == ["primary", "second"]


def test_an_avoided_provider_does_not_count_as_another_one() -> None:
    worker = Worker(PRIMARY, SECOND)
    worker.tell(DOWN, index=1, times=3)
    worker.table.avoid(1, ALICE, worker.now + AVOID_SECONDS)
    assert worker.allowed(ALICE) == ["second"]


def test_an_avoided_provider_is_asked_when_the_other_says_it_will_be_gone_for_longer() -> None:
    worker = Worker(PRIMARY, SECOND)
    worker.tell(worker.limit(), index=1)
    worker.table.avoid(1, ALICE, worker.now + AVOID_SECONDS)
    decisions = worker.admit()
    assert [(d.allowed, d.safety_valve) for d in decisions] == [(True, True), (False, False)]


def test_an_avoided_provider_is_not_probed() -> None:
    worker = limited()
    worker.grant(ALICES)
    worker.table.avoid(1, ALICE, worker.now + AVOID_SECONDS)
    assert not worker.decide().allowed


def test_a_clock_put_back_does_not_prolong_avoidance() -> None:
    worker = Worker()
    worker.table.avoid(1, ALICE, worker.now + AVOID_SECONDS)
    worker.now -= HOUR
    assert worker.allowed(ALICE) == ALL


# Operators and status pages


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


# Bounds


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
    assert len(table._avoidance) == MAX_CONVERSATIONS
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
