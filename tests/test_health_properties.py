"""What holds for provider health whatever happens, in whatever order, in two workers at once."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from providers.health import (
    AVOID_SECONDS,
    CANCELLED,
    IGNORED,
    MAX_NAMED,
    SUCCESS,
    Caller,
    Cause,
    Decision,
    HealthKey,
    HealthTable,
    Outcome,
    closed_until,
    failure,
    outcome_of,
)
from providers.routing import Credentials, ProviderSpec, Settings, Target
from tests.shared_health import SharedRows, flush, watch

SETTINGS = Settings(max_cooldown=200, probe_interval=120)
PROVIDERS = (
    ProviderSpec(1, "primary", "https://one.example", credentials=Credentials.CLIENT),
    ProviderSpec(2, "second", "https://two.example"),
    ProviderSpec(3, "third", "https://three.example"),
)
CALLERS = (Caller("alice", "session-a", ""), Caller("bob", "session-b", "agent"), Caller())
LONGEST_CALL = 800.0

workers = st.sampled_from([0, 1])
callers = st.sampled_from(CALLERS)
models = st.sampled_from(["opus", "sonnet"])
claims = st.sampled_from(["five_hour", "seven_day", "seven_day_opus", "something"])
statuses = st.sampled_from([400, 401, 429, 429, 429, 500, 503, 529])


@dataclass(frozen=True)
class Attempt:
    """A decision that was acted upon and whose outcome is not known yet."""

    worker: int
    caller: Caller
    decision: Decision


def quota(claim: str, reset: float) -> list[tuple[bytes, bytes]]:
    """The headers of a subscription that is used up."""
    prefix = b"anthropic-ratelimit-unified-"
    return [
        (prefix + b"status", b"rejected"),
        (prefix + b"representative-claim", claim.encode()),
        (prefix + b"reset", str(int(reset)).encode()),
    ]


class TwoWorkers(RuleBasedStateMachine):
    """Two workers, their database, one clock, and calls that overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_760_000_000.0
        self.tables = HealthTable("a"), HealthTable("b")
        self.shared = SharedRows(SETTINGS)
        self.attempts: list[Attempt] = []

    # Time passes, and the workers hear of each other

    @rule(seconds=st.sampled_from([0, 0.5, 30, 60, 121, 300, 4000]))
    def time_passes(self, seconds: float) -> None:
        for table in self.tables:  # the writer writes on change
            flush(table, self.shared, self.now)
        self.now += seconds
        for attempt in list(self.attempts):
            if attempt.decision.at + LONGEST_CALL <= self.now:
                self.attempts.remove(attempt)
                self.tables[attempt.worker].release(attempt.decision)

    @rule(worker=workers, turn=st.sampled_from(["write", "fail", "watch", "overlap"]))
    def the_background_runs(self, worker: int, turn: str) -> None:
        table = self.tables[worker]
        mark, rows = table.mark, self.shared.read()
        if turn == "fail":
            table.drain_changes()
            table.restore_changes()
        if turn in ("write", "overlap"):
            flush(table, self.shared, self.now)
        if turn == "overlap":  # the rows were read before they were written
            table.load(rows, SETTINGS, self.now, mark)
        if turn == "watch":
            watch(table, self.shared, self.now)

    # Calls

    def admit(self, worker: int, caller: Caller, model: str) -> list[Decision]:
        targets = [Target(provider, model) for provider in PROVIDERS]
        return self.tables[worker].admit(targets, caller, SETTINGS, self.now)

    @rule(worker=workers, caller=callers, model=models, tried=st.integers(1, 3))
    def a_call_comes(self, worker: int, caller: Caller, model: str, tried: int) -> None:
        decisions = self.admit(worker, caller, model)
        allowed = [decision for decision in decisions if decision.allowed]
        assert allowed
        valves = [decision for decision in decisions if decision.safety_valve]
        if valves:
            (valve,) = valves
            assert all(d.until is not None for d in decisions)
            assert valve.until == min(d.until or 0.0 for d in decisions)
            assert all(d.probe or d is valve for d in allowed)
        else:
            assert any(not decision.probe for decision in allowed)
        for decision in decisions:
            assert decision.until is None or self.now < decision.until <= self.now + MAX_NAMED
            assert (decision.reason != "") == (decision.until is not None)
        for decision in allowed[:tried]:
            self.attempts.append(Attempt(worker, caller, decision))
        for decision in allowed[tried:]:
            self.tables[worker].release(decision)

    @rule(
        worker=workers,
        caller=callers,
        model=models,
        times=st.integers(1, 10),
        outcome=st.sampled_from(["down", "limited", "quota"]),
        reached=st.integers(1, 3),
    )
    def providers_are_in_trouble(
        self, worker: int, caller: Caller, model: str, times: int, outcome: str, reached: int
    ) -> None:
        """Several calls in a row that the first providers refuse."""
        for number in range(times):
            refusal = {
                "down": failure("529", status=529),
                "limited": outcome_of(429, [(b"retry-after", b"3000")], self.now),
                "quota": outcome_of(429, quota("five_hour", self.now + 5000 + number), self.now),
            }[outcome]
            decisions = self.admit(worker, caller, model)
            for decision in decisions[:reached]:
                if decision.allowed:
                    self.tables[worker].record(decision, caller, refusal, SETTINGS, self.now)
            for decision in decisions:
                self.tables[worker].release(decision)

    @rule(worker=workers, caller=callers, model=models, seconds=st.sampled_from([0, 121]))
    def a_client_calls_again_and_again(
        self, worker: int, caller: Caller, model: str, seconds: float
    ) -> None:
        """The first call wishes for a probe, the watcher claims it, the second may use it."""
        self.time_passes(seconds)
        for decision in self.admit(worker, caller, model):
            self.tables[worker].release(decision)
        flush(self.tables[worker], self.shared, self.now)
        watch(self.tables[worker], self.shared, self.now)
        self.a_call_comes(worker, caller, model, 3)

    def settle(self, data: st.DataObject, outcome: Outcome) -> Attempt:
        attempt = data.draw(st.sampled_from(self.attempts))
        self.attempts.remove(attempt)
        table = self.tables[attempt.worker]
        before = {key: self.end_of(attempt.worker, key) for key in attempt.decision.leases}
        for _ in range(2):  # telling it twice changes nothing
            table.record(attempt.decision, attempt.caller, outcome, SETTINGS, self.now)
        table.release(attempt.decision)
        if outcome is not SUCCESS:
            for key, until in before.items():
                assert self.end_of(attempt.worker, key) == until
        return attempt

    def end_of(self, worker: int, key: HealthKey) -> float | None:
        row = self.tables[worker]._ledger.get(key)
        return row and row.until

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), status=statuses, claim=claims, seconds=st.integers(-5, 900_000))
    def an_attempt_is_refused(
        self, data: st.DataObject, status: int, claim: str, seconds: int
    ) -> None:
        plain = [(b"retry-after", str(seconds).encode())]
        headers = data.draw(st.sampled_from([quota(claim, self.now + seconds), plain, []]))
        own = data.draw(st.booleans())
        self.settle(data, outcome_of(status, headers, self.now, client_credentials=own))

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), outcome=st.sampled_from([CANCELLED, IGNORED, failure("timed out")]))
    def an_attempt_ends_without_an_answer(self, data: st.DataObject, outcome: Outcome) -> None:
        self.settle(data, outcome)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def an_attempt_crashes(self, data: st.DataObject) -> None:
        attempt = data.draw(st.sampled_from(self.attempts))
        self.attempts.remove(attempt)
        self.tables[attempt.worker].release(attempt.decision)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def an_attempt_succeeds(self, data: st.DataObject) -> None:
        attempt = self.settle(data, SUCCESS)
        target, at = attempt.decision.target, attempt.decision.at
        for row in self.tables[attempt.worker]._ledger.of_provider(target.provider.id):
            _, credential, model = row.key
            concerned = model in ("", target.model) and credential in (
                "",
                attempt.caller.credential or "-",
            )
            # Only a limit that was named after the call had begun outlives its success.
            if concerned and closed_until(row, SETTINGS, self.now) is not None:
                assert row.cause is Cause.LIMIT
                assert row.since is not None
                assert row.since > at

    @rule(worker=workers, caller=callers, provider=st.sampled_from([1, 2, 3]))
    def a_stream_dies(self, worker: int, caller: Caller, provider: int) -> None:
        self.tables[worker].avoid(provider, caller, self.now + AVOID_SECONDS)

    @rule(worker=workers, provider=st.sampled_from([1, 2, 3]))
    def an_operator_resets(self, worker: int, provider: int) -> None:
        table = self.tables[worker]
        table.reset(provider, SETTINGS, self.now)
        state = table.state_of(provider, SETTINGS, self.now)
        assert (state.until, state.failures, state.limits) == (None, 0, ())

    # What always holds

    @invariant()
    def no_cooldown_is_longer_than_permitted(self) -> None:
        for table in self.tables:
            for provider in PROVIDERS:
                for row in table._ledger.of_provider(provider.id):
                    until = closed_until(row, SETTINGS, self.now)
                    longest = SETTINGS.max_cooldown if row.cause is Cause.FAILURES else MAX_NAMED
                    assert until is None or until <= self.now + longest

    @invariant()
    def at_most_one_probe_of_a_key_is_under_way(self) -> None:
        keys = [key for attempt in self.attempts for key in attempt.decision.leases]
        assert len(keys) == len(set(keys))

    @invariant()
    def only_the_clients_own_failures_concern_its_credentials(self) -> None:
        for table in self.tables:
            for key in table._ledger.narrow.get(2, {}):
                assert key.credential == ""

    @invariant()
    def the_index_of_cooldowns_is_complete(self) -> None:
        for table in self.tables:
            ledger = table._ledger
            for provider in PROVIDERS:
                cooling = ledger.cooling.get(provider.id, {})
                rows = [r for r in ledger.of_provider(provider.id) if r.until is not None]
                assert sorted(cooldown.rows[0] for cooldown in cooling.values()) == sorted(rows)

    def teardown(self) -> None:
        """In the end all workers agree with the database."""
        for table in self.tables:
            flush(table, self.shared, self.now)
        for table in self.tables:
            table.load(self.shared.read(), SETTINGS, self.now, table.mark)
            assert table.drain_changes() == []
        first, second = self.tables
        assert first._ledger.wide == second._ledger.wide
        assert first._ledger.narrow == second._ledger.narrow


TwoWorkers.TestCase.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
test_whatever_happens_the_circuit_breaker_keeps_its_promises = TwoWorkers.TestCase
