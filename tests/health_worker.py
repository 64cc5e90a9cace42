"""One worker's health table, with three providers and a clock that is set by hand."""

from __future__ import annotations

from collections.abc import Sequence

from providers.health import Caller, Decision, HealthKey, HealthTable, Outcome, failure, outcome_of
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

ALL = ["primary", "second", "third"]
ALICES = HealthKey(1, "alice")


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


def limited() -> Worker:
    """Alice's subscription is used up for five hours; one interval has passed."""
    worker = Worker()
    worker.tell(worker.limit())
    worker.now += 300
    return worker
