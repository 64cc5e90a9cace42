"""Providers that one conversation stays away from, because its stream died there."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

AVOID_SECONDS = 60.0
"""How long a provider is avoided after a stream died: long enough for the client's own retry."""

MAX_CONVERSATIONS = 4096
"""Conversations that are remembered; the oldest go first."""

MAX_NAME = 200
"""Sessions and agents are named by the client: longer names are cut."""

NOTHING: Mapping[int, float] = MappingProxyType({})


class SessionAvoidance:
    """For each session and agent, the providers to avoid and until when."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], dict[int, float]] = {}

    def __len__(self) -> int:
        return len(self._until)

    def add(self, provider_id: int, session: str, agent: str, until: float) -> None:
        """Without a session nobody could be told apart: nothing is avoided."""
        if not session:
            return
        conversation = session[:MAX_NAME], agent[:MAX_NAME]
        providers = self._until.pop(conversation, {})
        self._until[conversation] = providers
        providers[provider_id] = until
        if len(self._until) > MAX_CONVERSATIONS:
            del self._until[next(iter(self._until))]

    def of(self, session: str, agent: str, now: float) -> Mapping[int, float]:
        """Provider ids to avoid now, each with the time at which that ends."""
        if not self._until:
            return NOTHING
        conversation = session[:MAX_NAME], agent[:MAX_NAME]
        providers = self._until.get(conversation)
        if providers is None:
            return NOTHING
        # A time that is further ahead was set by a clock that has since been put back.
        current = {p: until for p, until in providers.items() if now < until <= now + AVOID_SECONDS}
        self._keep(conversation, current)
        return current

    def forget(self, provider_id: int) -> None:
        """Nobody avoids this provider any longer."""
        for conversation, providers in list(self._until.items()):
            providers.pop(provider_id, None)
            self._keep(conversation, providers)

    def _keep(self, conversation: tuple[str, str], providers: dict[int, float]) -> None:
        if providers:
            self._until[conversation] = providers
        else:
            del self._until[conversation]
