"""Links into the filtered history."""

from __future__ import annotations

from django.urls import reverse

ANY_FAULT = "any"
MESSAGES_ONLY = {"kind": "messages"}
FALLBACKS = {"fell_back": "1"}
FAULTS = {"outcome": ANY_FAULT}
NONE = "-"
"""The choice of an empty value: a form says "" where nothing was chosen."""


def choice_of(name: str) -> str:
    """A name as a choice of a filter; one that begins like the choice of none is told apart."""
    return NONE + name if not name or name.startswith(NONE) else name


def read_choice(choice: str) -> str:
    """The name that `choice_of` made a choice of."""
    return choice.removeprefix(NONE)


def history_link(**filters: str) -> str:
    """The history with these filters."""
    return reverse("admin:proxy_requestlog_changelist", query=filters)


def period(begin: float, end: float) -> dict[str, str]:
    """The filter for calls that began from `begin` on and before `end`, in epoch seconds."""
    return {"since": f"{begin:.0f}-{end:.0f}"}
