"""Who would answer now, and when the primary is back: for status lines and for operators."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from providers.health import Condition, HealthKey, HealthTable, ProviderState
from providers.routing import ProviderSpec, Settings, Snapshot
from proxy.models import RequestLog


def provider_lines(
    providers: Iterable[ProviderSpec],
    table: HealthTable,
    settings: Settings,
    now: float,
    *,
    credential: str | None = None,
) -> list[dict[str, Any]]:
    """Each provider with its state. Times in ISO 8601, `returns_in` in seconds.

    With `credential`, the hash of a client's own, the limits of other clients are left out.
    """
    states = ((p, table.state_of(p.id, settings, now)) for p in providers)
    if credential is not None:
        states = ((p, _seen_by(credential, state)) for p, state in states)
    return [_line(p.name, state, now) for p, state in states]


def unasked_line(name: str, *, enabled: bool) -> dict[str, Any]:
    """A provider that nobody asks, in the shape of the others.

    If it is not disabled, its key cannot be decrypted.
    """
    state = ProviderState(HealthKey(0), Condition.HEALTHY, None, "", 0, None, None, "")
    return {**_line(name, state, 0.0), "state": "key unreadable" if enabled else "disabled"}


def overview(snapshot: Snapshot, table: HealthTable, now: float, credential: str) -> dict[str, Any]:
    """What concerns a client with this credential, "" without one of its own.

    `provider` is the first one that is open, `primary` the first one of all.
    """
    lines = provider_lines(snapshot.providers, table, snapshot.settings, now, credential=credential)
    open_ones = [line for line in lines if line["state"] in _OPEN]
    skipped = [line for line in lines if line["state"] not in _OPEN]
    in_use = open_ones[0] if open_ones else min(skipped, key=_return, default=None)
    before = skipped[0] if skipped and in_use is not lines[0] else None
    return {
        "provider": in_use["name"] if in_use else None,
        "reason": f"{before['name']}: {before['reason']}" if before else None,
        "primary": lines[0] if lines else None,
        "providers": lines,
    }


def session_figures(session_id: str) -> dict[str, Any]:
    """Calls of one Claude Code session, and how many of them a fallback answered. A query."""
    calls = RequestLog.objects.filter(session_id=session_id, path="/v1/messages")
    last = calls.order_by("-id").values_list("provider", flat=True).first()
    return {
        "id": session_id,
        "calls": calls.count(),
        "fallbacks": calls.filter(fell_back=True).count(),
        "last_provider": last or None,
    }


def _seen_by(credential: str, state: ProviderState) -> ProviderState:
    """A state without the limits of other clients' credentials.

    The provider's own cooldown gives way to a limit that keeps this client out for longer.
    """
    limits = [limit for limit in state.limits if limit.key.credential in ("", credential)]
    longest = max(limits, key=lambda limit: limit.until or 0.0, default=state)
    if state.until is not None and (longest.until or 0.0) > state.until:
        state = replace(state, until=None)
    return replace(state, limits=tuple(limits))


_OPEN = frozenset({Condition.HEALTHY.value, Condition.FAILING.value})


def _line(name: str, state: ProviderState, now: float) -> dict[str, Any]:
    """A provider's own cooldown, else the longest one of a credential or model there."""
    worst = state
    if state.until is None:
        worst = max(state.limits, key=lambda limit: limit.until or 0.0, default=state)
    scope = "model" if worst.key.model else "credential" if worst.key.credential else "provider"
    closed = worst.until is not None
    return {
        "name": name,
        "state": worst.condition.value,
        "reason": worst.reason or None,
        "scope": scope if closed else None,
        "model": worst.key.model or None,
        "returns_at": _iso(worst.until),
        "returns_in": round(worst.until - now) if worst.until is not None else None,
        "failures": state.failures,
        "last_failure": _iso(state.last_failure),
        "last_success": _iso(state.last_success),
        "last_error": state.last_error or None,
    }


def _return(line: dict[str, Any]) -> float:
    seconds: float | None = line["returns_in"]
    return seconds if seconds is not None else 0.0


def _iso(moment: float | None) -> str | None:
    if moment is None:
        return None
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat(timespec="seconds")
