"""The repairs of one attempt: which comes next, what has run, what is worth remembering."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.routing import Target
from proxy.rectifiers.base import Draft, Repair
from proxy.rectifiers.changes import Change, first_changes
from proxy.wire import ErrorReply

MAX_REPAIRS = 4
"""Of one attempt. A request that needs more is not the provider's to mend."""

SWITCH = "repairs"
"""The profile key under which a provider switches repairs on and off, by name."""


def always(name: str) -> bool:
    """Every repair is switched on."""
    return True


@dataclass(frozen=True, slots=True)
class RepairRecord:
    """One repair that was tried, for the log: places and sizes only."""

    name: str
    changes: tuple[Change, ...]

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "changes": [change.as_json() for change in self.changes]}


@dataclass(slots=True)
class RepairPlan:
    """The repairs of one attempt at one target. Make a new one for the next target.

    Ask `next` after each refusal, with the draft that was refused; send what it
    returns to the same target, or hear the refusal when it returns None. Once an
    attempt succeeds, `learned` says what to remember of the provider.
    """

    repairs: tuple[Repair, ...]
    most: int = MAX_REPAIRS
    ran: list[RepairRecord] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """What the provider said about itself that no repair can change: true even if all fails."""

    _learned: dict[str, Any] = field(default_factory=dict)

    def next(
        self,
        error: ErrorReply,
        draft: Draft,
        target: Target,
        enabled: Callable[[str], bool] = always,
    ) -> tuple[Repair, Draft] | None:
        """The first repair that answers to `error` and changes something, and the mended draft."""
        if len(self.ran) >= self.most:
            return None
        runs = Counter(record.name for record in self.ran)
        for repair in self.repairs:
            if runs[repair.name] >= repair.runs or not allowed(repair, target, enabled):
                continue
            if not repair.matches(error, target):
                continue
            mended = repair.apply(draft, error, target)
            if mended is None:
                continue
            learned = _turned(repair, draft, mended)
            if repair.gives_up:
                self.facts |= learned
                return None
            self._learned |= learned
            self.ran.append(RepairRecord(repair.name, first_changes(draft, mended)))
            return repair, mended
        return None

    def learned(self) -> Mapping[str, Any]:
        """Profile overrides that made this attempt succeed: facts about provider and model."""
        return dict(self._learned)


def allowed(repair: Repair, target: Target, enabled: Callable[[str], bool] = always) -> bool:
    """Whether a repair may run at a target: by the settings, and the provider's own switches."""
    usual = repair.on_primary or not target.provider.uses_client_credentials
    own = target.provider.profile.get(SWITCH)
    wanted = own.get(repair.name, usual) if isinstance(own, Mapping) else usual
    return bool(wanted) and enabled(repair.name)


def _turned(repair: Repair, before: Draft, after: Draft) -> dict[str, Any]:
    """The switches worth remembering among those that a repair has turned."""
    return {
        key: value
        for key, value in after.profile.items()
        if key in repair.learns and before.profile.get(key, None) != value
    }
