"""How hard the model shall think, in the provider's dialect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from proxy.formats.openai_chat.profile import Profile
from proxy.formats.openai_chat.switches import EFFORTS

OFF = "off"
_CLIENT_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_LOW_BUDGET, _MEDIUM_BUDGET = 4000, 16000
_ADAPTIVE = "high"  # what the API takes for adaptive thinking without an effort


def wanted_effort(document: Mapping[str, Any]) -> str | None:
    """An effort, OFF, or None if the client says nothing about thinking."""
    thinking = document.get("thinking")
    thinking = thinking if isinstance(thinking, dict) else {}
    if thinking.get("type") == "disabled":
        return OFF
    config = document.get("output_config")
    effort = config.get("effort") if isinstance(config, dict) else None
    if effort in _CLIENT_EFFORTS:
        return str(effort)
    if thinking.get("type") == "enabled":
        return _effort_of_budget(thinking.get("budget_tokens"))
    return _ADAPTIVE if thinking.get("type") == "adaptive" else None


def asks_for_thinking(document: Mapping[str, Any]) -> bool:
    """Whether the client wants to see thinking blocks."""
    thinking = document.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive")


def reasoning_params(effort: str | None, profile: Profile, *, with_tools: bool) -> dict[str, Any]:
    """The request parameters that ask for `effort`."""
    params: dict[str, Any] = {}
    if effort == OFF:
        params = dict(_OFF[profile.reasoning_param](profile))
    elif effort is not None:
        params = dict(_ON[profile.reasoning_param](supported_effort(effort, profile)))
    if with_tools and profile.reasoning_effort_override is not None:
        params["reasoning_effort"] = profile.reasoning_effort_override
    return params


def supported_effort(effort: str, profile: Profile) -> str:
    """The nearest supported level that is not above `effort`, else the lowest there is."""
    effort = profile.effort_map.get(effort, effort)
    levels = sorted(
        (level for level in profile.effort_levels if level != "none"), key=EFFORTS.index
    )
    if not levels:
        return effort
    wanted = EFFORTS.index(effort)
    return next((level for level in reversed(levels) if EFFORTS.index(level) <= wanted), levels[0])


def _effort_of_budget(budget: Any) -> str:
    if not isinstance(budget, int) or isinstance(budget, bool):
        return "high"
    if budget < _LOW_BUDGET:
        return "low"
    return "medium" if budget < _MEDIUM_BUDGET else "high"


def _nothing(_: Any) -> Mapping[str, Any]:
    return {}


def _no_effort(profile: Profile) -> Mapping[str, Any]:
    return {"reasoning_effort": "none"} if "none" in profile.effort_levels else {}


_ON: Mapping[str, Callable[[str], Mapping[str, Any]]] = {
    "none": _nothing,
    "reasoning_effort": lambda effort: {"reasoning_effort": effort},
    "openrouter": lambda effort: {"reasoning": {"effort": effort}},
    "deepseek": lambda effort: {"thinking": {"type": "enabled"}, "reasoning_effort": effort},
    "thinking_type": lambda _: {"thinking": {"type": "enabled"}},
    "enable_thinking": lambda _: {"enable_thinking": True},
    "chat_template_kwargs": lambda _: {"chat_template_kwargs": {"enable_thinking": True}},
}
_OFF: Mapping[str, Callable[[Profile], Mapping[str, Any]]] = {
    "none": _nothing,
    "reasoning_effort": _no_effort,
    "openrouter": lambda _: {"reasoning": {"enabled": False}},
    "deepseek": lambda _: {"thinking": {"type": "disabled"}},
    "thinking_type": lambda _: {"thinking": {"type": "disabled"}},
    "enable_thinking": lambda _: {"enable_thinking": False},
    "chat_template_kwargs": lambda _: {"chat_template_kwargs": {"enable_thinking": False}},
}
