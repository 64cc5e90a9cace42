"""What the proxy has found out about providers: facts about their models, and who signs thinking.

Both are hints with an end: a fact expires, the table of signatures is bounded.
In memory, for one event loop; `providers.knowledge_store` shares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from providers.routing import Target

FACT_SECONDS = 7 * 86400.0
"""How long a learned fact is relied on: providers change."""

MAX_SIGNATURES = 20_000
"""Signatures that are remembered; the oldest go first."""

MAX_UNWRITTEN = 5_000


class Fact(NamedTuple):
    """One switch of a provider's profile that was found out, for one of its models."""

    provider_id: int
    model: str
    key: str
    value: Any
    repair: str
    expires: float


class Signature(NamedTuple):
    """The short hash of a thinking signature, and the provider that it came from."""

    digest: str
    provider_id: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be written."""

    facts: tuple[Fact, ...] = ()
    signatures: tuple[Signature, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.facts or self.signatures)


class Knowledge:
    """Learned facts and signature origins of one worker."""

    def __init__(self) -> None:
        self._facts: dict[tuple[int, str], dict[str, Fact]] = {}
        self._origins: dict[str, int] = {}
        self._signers: set[int] = set()
        self._refused: dict[Signature, None] = {}
        self._refusers: set[int] = set()
        self._new_facts: list[Fact] = []
        self._new_signatures: list[Signature] = []

    # Facts

    def learn(self, target: Target, overrides: Mapping[str, Any], repair: str, now: float) -> None:
        """`overrides` of the profile made `target` answer; they hold from the next call on."""
        for key, value in overrides.items():
            fact = Fact(target.provider.id, target.model, key, value, repair, now + FACT_SECONDS)
            self._facts.setdefault((fact.provider_id, fact.model), {})[key] = fact
            self._new_facts.append(fact)

    def informed(self, target: Target, now: float) -> Target:
        """`target` with what is known of it laid under the operator's own profile."""
        facts = self._facts.get((target.provider.id, target.model))
        if not facts:
            return target
        known = {key: fact.value for key, fact in facts.items() if now < fact.expires}
        profile = MappingProxyType({**known, **target.provider.profile})
        return replace(target, provider=replace(target.provider, profile=profile))

    # Signatures

    def minted(self, digests: Iterable[str], provider_id: int) -> None:
        """These signatures have passed on their way from a provider.

        The first one has signed: another that hands them out again has only read them.
        """
        for digest in digests:
            if digest not in self._origins:
                self._remember(Signature(digest, provider_id))
                self._new_signatures.append(Signature(digest, provider_id))

    def refused(self, digests: Iterable[str], provider_id: int) -> None:
        """A provider has answered only once it was spared these signatures: those that it is not
        known to have made are not its own, whose ever they are. This worker alone remembers."""
        for digest in digests:
            if self._origins.get(digest) != provider_id:
                self._refused[Signature(digest, provider_id)] = None
                self._refusers.add(provider_id)
        while len(self._refused) > MAX_SIGNATURES:
            del self._refused[next(iter(self._refused))]

    def has_foreign(self, provider_id: int) -> bool:
        """Whether any signature at all is known that this provider has not made."""
        others = len(self._signers) - (provider_id in self._signers)
        return others > 0 or provider_id in self._refusers

    def is_foreign(self, digest: str, provider_id: int) -> bool:
        """Whether a signature is known not to be this provider's. An unknown one may be."""
        if digest in self._origins:
            return self._origins[digest] != provider_id
        return Signature(digest, provider_id) in self._refused

    # Sharing

    @property
    def has_changes(self) -> bool:
        return bool(self._new_facts or self._new_signatures)

    def drain_changes(self) -> Changes:
        """What this worker has learned since the last time."""
        changes = Changes(tuple(self._new_facts), tuple(self._new_signatures))
        self._new_facts.clear()
        self._new_signatures.clear()
        return changes

    def restore_changes(self, changes: Changes) -> None:
        """They could not be written; keep what is affordable for the next time."""
        self._new_facts[:0] = changes.facts[-MAX_UNWRITTEN:]
        self._new_signatures[:0] = changes.signatures[-MAX_UNWRITTEN:]

    def load(self, facts: Iterable[Fact], signatures: Iterable[Signature]) -> None:
        """Take over the shared state; what this worker has not written yet stays on top."""
        self._facts.clear()
        for fact in (*facts, *self._new_facts):
            self._facts.setdefault((fact.provider_id, fact.model), {})[fact.key] = fact
        self._origins.clear()
        self._signers.clear()
        for signature in (*signatures, *self._new_signatures):
            self._remember(signature)

    def _remember(self, signature: Signature) -> None:
        self._origins.setdefault(signature.digest, signature.provider_id)
        self._signers.add(signature.provider_id)
        if len(self._origins) > MAX_SIGNATURES:
            del self._origins[next(iter(self._origins))]
