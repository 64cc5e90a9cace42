"""What is remembered about a provider, and the facts that change it.

Times are epoch seconds throughout. A `HealthRow` is one row of the shared table, a
`HealthEvent` one fact that some worker has seen. Both are named tuples, because they
are made on the way of a call, where a frozen dataclass takes three times as long.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from providers.routing import Credentials, Target

MAX_MODEL = 200
"""Longer model names are cut: they are the client's to choose, and they are kept in memory."""

WIDE = ("", "")
"""Credential and model of a provider's own key."""

ANONYMOUS = "-"
"""Stands for a client without credentials at a provider that is called with the client's."""


class HealthKey(NamedTuple):
    """Whom a row concerns: a provider, or only one credential or one model there.

    `credential` is a hash of a client's own credentials, "" where the provider is called with
    its own key. "" in both is the provider as a whole.
    """

    provider_id: int
    credential: str = ""
    model: str = ""

    @property
    def provider_wide(self) -> bool:
        return not self.credential and not self.model


class Scope(enum.StrEnum):
    """How much of a provider one outcome speaks for."""

    PROVIDER = "provider"
    CREDENTIAL = "credential"
    MODEL = "model"


def key_of(target: Target, credential: str, scope: Scope) -> HealthKey:
    """The row that an outcome of `scope` belongs to, for a caller with `credential`.

    With a key of its own the provider has one credential: that scope is the provider's.
    """
    provider = target.provider
    if scope is Scope.PROVIDER:
        return HealthKey(provider.id)
    owner = owner_of(target, credential)
    return HealthKey(provider.id, owner, target.model[:MAX_MODEL] if scope is Scope.MODEL else "")


def keys_of(target: Target, credential: str) -> tuple[HealthKey, ...]:
    """All the rows that concern a call of this caller to `target`, the provider's own first."""
    provider_id = target.provider.id
    narrow = narrow_parts(target, credential)
    return HealthKey(provider_id), *(HealthKey(provider_id, *part) for part in narrow)


def narrow_parts(target: Target, credential: str) -> tuple[tuple[str, str], ...]:
    """Credential and model of the narrower keys among `keys_of`."""
    model = target.model
    if len(model) > MAX_MODEL:
        model = model[:MAX_MODEL]
    # Not by `owner_of`: this is asked for every closed target of a call.
    if target.provider.credentials is not Credentials.CLIENT:
        return (("", model),)
    owner = credential or ANONYMOUS
    return (owner, ""), (owner, model)


def owner_of(target: Target, credential: str) -> str:
    """The credential part of a row's key."""
    return (credential or ANONYMOUS) if target.provider.uses_client_credentials else ""


class Cause(enum.StrEnum):
    """Why a provider cools down: it decides how long that may last and what ends it early."""

    FAILURES = "failures"
    LIMIT = "limit"
    OPERATOR = "operator"


class HealthRow(NamedTuple):
    """The health of one key, as shared by all workers.

    `failures` counts failures in a row. A cooldown is `cause`, `reason` (short English for
    people), `since` and `until`, all or none of them. `proven_at` is when the latest call that
    succeeded was admitted: what was said before that no longer holds. `probe_at` is when the
    last probe ended, or when the cooldown began; the next one is due an interval later.
    `probe_owner` and `probe_until` are the lease of the one worker that may probe.
    `reply` is what it said when it was closed, as whoever asks has packed it.
    `version` grows with every change.
    """

    key: HealthKey
    failures: int = 0
    last_failure: float | None = None
    last_success: float | None = None
    last_error: str = ""
    cause: Cause | None = None
    reason: str = ""
    since: float | None = None
    until: float | None = None
    proven_at: float | None = None
    probe_at: float | None = None
    probe_owner: str = ""
    probe_until: float | None = None
    reply: str = ""
    version: int = 0


class EventKind(enum.StrEnum):
    """What a worker has seen."""

    FAILURE = "failure"
    SUCCESS = "success"
    LIMIT = "limit"
    PROBE_STARTED = "probe started"
    PROBE_FAILED = "probe failed"
    PROBE_RETURNED = "probe returned"
    RESET = "reset"
    COOL_DOWN = "cool down"


class HealthEvent(NamedTuple):
    """One fact about one key, to be applied by `arithmetic.apply`, in memory and in the database.

    It is a change, never a result, so that workers that write at once lose nothing.
    `started` is when the call was admitted (SUCCESS). `until` ends a LIMIT or COOL_DOWN.
    `lone`: there was no other provider to turn to, so the FAILURE counts but closes nothing.
    `owner` is the worker whose probe this was, `reply` what a LIMIT was told by.
    """

    key: HealthKey
    kind: EventKind
    at: float
    started: float = 0.0
    until: float | None = None
    reason: str = ""
    error: str = ""
    lone: bool = False
    owner: str = ""
    reply: str = ""
