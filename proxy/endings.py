"""What the end of a committed stream means: for the history, for health, for the session."""

from __future__ import annotations

from dataclasses import dataclass, field

from providers.health import CANCELLED, SUCCESS, Caller, Decision, Outcome
from providers.health_keeper import HealthKeeper
from providers.knowledge import Knowledge
from providers.routing import Target, WireFormat
from proxy.errors import UpstreamFailure, UpstreamRefused
from proxy.health_outcomes import health_outcome
from proxy.history.records import CallRecord
from proxy.rectifiers.provenance import SignatureWatch, signatures_passing
from proxy.redaction import redact
from proxy.stream import ClientGone


def note_signatures(knowledge: Knowledge, target: Target, data: bytes) -> None:
    """Remember who has signed the thinking in a whole message."""
    # One search, from behind because that is faster: hardly any message has thinking.
    if target.provider.format is WireFormat.ANTHROPIC and data.rfind(b'thinking"') >= 0:
        knowledge.minted(signatures_passing(data), target.provider.id)


def watch_for(target: Target) -> SignatureWatch | None:
    """What looks for signatures in the stream of `target`, None where there can be none."""
    return SignatureWatch() if target.provider.format is WireFormat.ANTHROPIC else None


@dataclass(frozen=True, slots=True)
class StreamEnding:
    """Watches a committed stream to its end. Holds nothing of the request's body."""

    health: HealthKeeper
    knowledge: Knowledge
    decision: Decision
    caller: Caller
    record: CallRecord
    secrets: list[str] = field(repr=False)
    watch: SignatureWatch | None = field(default=None, repr=False)
    """Of a provider that signs its thinking."""

    def on_data(self, data: bytes) -> None:
        self.record.bytes_out += len(data)
        if self.watch is not None and (digests := self.watch.feed(data)):
            self.knowledge.minted(digests, self.decision.target.provider.id)

    def on_end(self, failure: Exception | None) -> None:
        if failure is None:
            self.record.finish("answered")
            outcome = SUCCESS
        elif isinstance(failure, ClientGone):
            self.record.finish(self.record.interruption)
            outcome = CANCELLED
        else:
            message = redact(str(failure), self.secrets)
            self.record.finish("broken", message)
            outcome = self._of_a_broken_stream(failure, message)
        self.health.record(self.decision, self.caller, outcome)

    def _of_a_broken_stream(self, failure: Exception, message: str) -> Outcome:
        target = self.decision.target
        if not isinstance(failure, UpstreamRefused):
            # It died: the client's own retry goes to somebody else.
            self.health.avoid(target, self.caller)
        if not isinstance(failure, UpstreamFailure):
            return CANCELLED
        return health_outcome(failure, target, self.health.now(), message, self.secrets)
