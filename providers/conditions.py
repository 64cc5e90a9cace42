"""How each provider is doing at this moment, for the people who run it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.utils.translation import gettext_lazy as _

from providers.health import Condition, HealthTable, ProviderState
from providers.health_store import read_rows
from providers.loading import load_settings
from providers.models import Provider

DISABLED = "disabled"

LABELS = {
    Condition.HEALTHY.value: _("healthy"),
    Condition.FAILING.value: _("failing"),
    Condition.COOLING_DOWN.value: _("cooling down"),
    Condition.PROBING.value: _("probing"),
    DISABLED: _("disabled"),
}

SCOPES = {"model": _("one model"), "credential": _("one client's credentials")}
"""For whom alone a cooldown may be in force."""


@dataclass(frozen=True, slots=True)
class ProviderCondition:
    """One provider. Times in epoch seconds.

    A cooldown of a single model or credential shows where the provider itself has none: `scope`
    is then "model" or "credential", else "". `until` is None where nothing is cooling down.
    """

    provider_id: int
    name: str
    state: str
    scope: str = ""
    model: str = ""
    reason: str = ""
    until: float | None = None
    failures: int = 0
    last_failure: float | None = None
    last_success: float | None = None
    last_error: str = ""

    @property
    def open(self) -> bool:
        """Whether calls go to it: all but, perhaps, those for one model."""
        return self.state != DISABLED and (self.until is None or self.scope == "model")


def conditions_of(providers: Iterable[Provider], now: float) -> list[ProviderCondition]:
    """The condition of each of the providers, in their order. Two queries, however many."""
    settings = load_settings()
    table = HealthTable()
    table.load(read_rows(), settings, now)
    return [_condition(p, table.state_of(p.pk, settings, now)) for p in providers]


def _condition(provider: Provider, state: ProviderState) -> ProviderCondition:
    """The provider's own cooldown, else the longest of a credential or a model there."""
    narrow = max(state.limits, key=lambda limit: limit.until or 0.0, default=state)
    worst = state if state.until is not None else narrow
    return ProviderCondition(
        provider_id=provider.pk,
        name=provider.name,
        state=worst.condition.value if provider.enabled else DISABLED,
        scope="model" if worst.key.model else "credential" if worst.key.credential else "",
        model=worst.key.model,
        reason=worst.reason,
        until=worst.until,
        failures=state.failures,
        last_failure=state.last_failure,
        last_success=state.last_success,
        last_error=state.last_error,
    )
