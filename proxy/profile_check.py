"""Whether a provider's profile makes sense: the switches of all formats, and of the repairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from proxy.formats.openai_chat import validate_profile
from proxy.rectifiers import REPAIRS

THINKING_FORMS = ("adaptive", "enabled", "not_disabled")


def profile_problems(profile: Mapping[str, Any]) -> list[str]:
    """What is wrong with a profile, a phrase each; empty if it is fine."""
    problems = validate_profile(profile, also=_CHECKS)
    for key, check in _CHECKS.items():
        if key in profile and (problem := check(profile[key])):
            problems.append(f"{key}: {problem}")
    return problems


def _boolean(value: Any) -> str:
    return "" if isinstance(value, bool) else "must be true or false"


def _strings(value: Any) -> str:
    listed = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return "" if listed else "must be a list of strings"


def _choice(*choices: str) -> Callable[[Any], str]:
    return lambda value: "" if value in choices else "must be one of " + ", ".join(choices)


def _repairs(value: Any) -> str:
    if not isinstance(value, Mapping):
        return "must be an object of repairs and true or false"
    known = {repair.name for repair in REPAIRS}
    for name, switch in value.items():
        if name not in known:
            return f"{name} is not a repair"
        if not isinstance(switch, bool):
            return f"{name} must be true or false"
    return ""


_CHECKS: Mapping[str, Callable[[Any], str]] = {
    "billing_block": _choice("keep", "strip"),
    "keep_thinking": _boolean,
    "thinking_form": _choice(*THINKING_FORMS),
    "strip_fields": _strings,
    "strip_betas": _strings,
    "repairs": _repairs,
}
"""Switches of Anthropic-format providers, and of the repairs of any format."""
