"""Providers that one conversation stays away from, because its stream died there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from providers.health.arithmetic import CLOCK_SKEW

AVOID_SECONDS = 60.0
"""How long a provider is avoided after a stream died: long enough for the client's own retry."""

MAX_CONVERSATIONS = 4096
"""Conversations that are remembered; the oldest go first."""

NOTHING: Mapping[int, float] = MappingProxyType({})


class Avoided(NamedTuple):
    """A provider that one conversation stays away from. `until` in epoch seconds."""

    provider_id: int
    conversation: str
    until: float


def conversation_of(session: str, agent: str) -> str:
    """A hash that stands for a session and agent: their ids, which clients choose, are not kept."""
    return hashlib.sha256(f"{session}\0{agent}".encode()).hexdigest()[:32]


def in_force(until: float, now: float) -> bool:
    """Whether to avoid until then. What is further ahead was set by a clock that went wrong."""
    return now < until <= now + AVOID_SECONDS + CLOCK_SKEW


class Avoidance:
    """For each conversation, the providers to avoid and until when.

    What this worker has seen itself is `unshared` until it has been written for the others.
    """

    def __init__(self) -> None:
        self._until: dict[str, dict[int, float]] = {}
        self._unshared: dict[tuple[str, int], float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def add(self, provider_id: int, session: str, agent: str, until: float) -> None:
        """Without a session nobody could be told apart: nothing is avoided."""
        if not session:
            return
        conversation = conversation_of(session, agent)
        self._store(Avoided(provider_id, conversation, until))
        self._unshared[conversation, provider_id] = until
        if len(self._unshared) > MAX_CONVERSATIONS:
            del self._unshared[next(iter(self._unshared))]

    def of(self, session: str, agent: str, now: float) -> Mapping[int, float]:
        """Provider ids to avoid now, each with the time at which that ends."""
        if not self._until or not session:
            return NOTHING
        conversation = conversation_of(session, agent)
        providers = self._until.get(conversation)
        if providers is None:
            return NOTHING
        current = {p: until for p, until in providers.items() if in_force(until, now)}
        self._keep(conversation, current)
        return current

    def forget(self, provider_id: int) -> None:
        """Nobody avoids this provider any longer."""
        for conversation, providers in list(self._until.items()):
            providers.pop(provider_id, None)
            self._keep(conversation, providers)
            self._unshared.pop((conversation, provider_id), None)

    def unshared(self) -> list[Avoided]:
        """What the other workers have not been told yet."""
        return [
            Avoided(provider_id, conversation, until)
            for (conversation, provider_id), until in self._unshared.items()
        ]

    def shared(self, written: Iterable[Avoided]) -> None:
        """These have been written for all workers, unless they have been prolonged since."""
        for provider_id, conversation, until in written:
            if self._unshared.get((conversation, provider_id)) == until:
                del self._unshared[conversation, provider_id]

    def load(self, rows: Iterable[Avoided]) -> None:
        """Take over what all workers share; what is not in there yet stays."""
        self._until.clear()
        for avoided in [*rows, *self.unshared()]:
            self._store(avoided)

    def _store(self, avoided: Avoided) -> None:
        providers = self._until.pop(avoided.conversation, {})
        self._until[avoided.conversation] = providers
        providers[avoided.provider_id] = avoided.until
        if len(self._until) > MAX_CONVERSATIONS:
            del self._until[next(iter(self._until))]

    def _keep(self, conversation: str, providers: dict[int, float]) -> None:
        if providers:
            self._until[conversation] = providers
        else:
            del self._until[conversation]
