"""The state of a provider as a badge, and the time that is left of it."""

from __future__ import annotations

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from providers.admin.phrases import clock, span
from providers.conditions import LABELS, SCOPES, ProviderCondition
from providers.health import Condition

STYLES = {
    Condition.HEALTHY.value: "ccf-good",
    Condition.FAILING.value: "ccf-warn",
    Condition.COOLING_DOWN.value: "ccf-bad",
    Condition.PROBING.value: "ccf-warn",
}


def state_badge(condition: ProviderCondition) -> SafeString:
    """Just the word, coloured: `healthy`, `cooling down`, ..."""
    style = STYLES.get(condition.state, "ccf-quiet")
    if condition.scope == "model":
        style = "ccf-warn"
    return format_html(
        '<span class="ccf-state {}">{}</span>', style, LABELS.get(condition.state, condition.state)
    )


def return_line(condition: ProviderCondition, now: float) -> str:
    """`until 14:35, for one model (opus): 7-day Opus limit`; "" without a cooldown."""
    if condition.until is None or condition.state == "disabled":
        return ""
    until = _("until %s") % clock(condition.until, now)
    whom = SCOPES.get(condition.scope)
    if whom is not None:
        until += ", " + _("for %s") % whom
        if condition.model:
            until += f" ({condition.model})"
    return f"{until}: {condition.reason}" if condition.reason else until


def countdown(until: float, now: float) -> SafeString:
    """`in 12 min`; a script of ours keeps it up to date."""
    return format_html(
        '<span class="ccf-countdown" data-until="{}">{}</span>',
        f"{until:.0f}",
        _("in %s") % span(until - now),
    )
