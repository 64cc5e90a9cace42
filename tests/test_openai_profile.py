"""The dialect of a provider: guessed from its host, overridden key by key."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from proxy.formats.openai_chat import validate_profile
from proxy.formats.openai_chat.profile import (
    PRESETS,
    Profile,
    guess_preset,
    profile_for,
)
from proxy.formats.openai_chat.switches import CHECKS
from tests.openai_dialect import target

HOSTS = {
    "https://api.openai.com/v1": "openai",
    "https://eu.api.openai.com/v1": "openai",
    "https://r.openai.azure.com/openai/deployments/d?api-version=1": "azure",
    "https://openrouter.ai/api/v1": "openrouter",
    "https://api.deepseek.com": "deepseek",
    "https://API.Mistral.ai/v1": "mistral",
    "https://generativelanguage.googleapis.com/v1beta/openai/": "gemini",
    "https://api.groq.com/openai/v1": "groq",
    "https://api.moonshot.ai/v1": "kimi",
    "https://api.moonshot.cn/v1": "kimi",
    "https://dashscope-intl.aliyuncs.com/compatible-mode/v1": "qwen",
    "http://user:pw@localhost:11434/v1": "ollama",
    "http://localhost:8000/v1": "generic",
    "https://api.openai.com.evil.example/v1": "generic",
    "not a url": "generic",
    "http://[broken": "generic",
}


@pytest.mark.parametrize(("base_url", "preset"), HOSTS.items())
def test_the_preset_of_a_host(base_url: str, preset: str) -> None:
    assert guess_preset(base_url) == preset


def test_presets_are_valid_themselves() -> None:
    assert [name for name, preset in PRESETS.items() if validate_profile(preset)] == []


def test_every_switch_can_be_overridden_and_is_checked() -> None:
    assert CHECKS.keys() == {switch.name for switch in fields(Profile)}
    assert profile_for(target("mistral", tool_id_style="asis40")).tool_id_style == "asis40"
    assert profile_for(target("mistral", tool_id_style="asis40")).prefill == "mistral_prefix"
    assert profile_for(target(preset="mistral")).tool_id_style == "alnum9"


MODELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "gpt-4o": ("none", ("low", "medium", "high")),
    "gpt-5": ("reasoning_effort", ("minimal", "low", "medium", "high")),
    "gpt-5-chat-latest": ("none", ("low", "medium", "high")),
    "gpt-5.1-codex": ("reasoning_effort", ("none", "low", "medium", "high")),
    "gpt-5.6-terra": ("reasoning_effort", ("none", "low", "medium", "high", "xhigh")),
    "o3-mini": ("reasoning_effort", ("low", "medium", "high")),
}


@pytest.mark.parametrize(("model", "expected"), MODELS.items())
def test_openais_models_differ(model: str, expected: tuple[str, tuple[str, ...]]) -> None:
    profile = profile_for(target("openai", model))

    assert (profile.reasoning_param, profile.effort_levels) == expected
    assert profile.sampling == ("drop" if expected[0] != "none" else "pass")


GOOD: list[dict[str, Any]] = [
    {},
    {"preset": "vllm", "max_output_tokens": 8192, "images": False},
    {"max_output_tokens": None, "effort_levels": ["low", "max"], "effort_map": {"high": "max"}},
    {"extra_body": {"seed": 1}, "drop_params": ["user"], "extra_headers": {"x": "y"}},
    {"repairs": {"tool_id_style": False}},
]


@pytest.mark.parametrize("mapping", GOOD, ids=str)
def test_good_profiles(mapping: dict[str, Any]) -> None:
    assert validate_profile(mapping) == []


BAD: list[tuple[Any, str]] = [
    ([], "The profile must be a JSON object."),
    ({"image": True}, "image: is not a known setting; did you mean images?"),
    ({"zzz": 1}, "zzz: is not a known setting"),
    ({"images": "no"}, "images: must be true or false"),
    ({"max_tools": 0}, "max_tools: must be a whole number, at least 1"),
    ({"max_tools": True}, "max_tools: must be a whole number, at least 1"),
    ({"stop_max": 1.5}, "stop_max: must be a whole number, at least 0"),
    (
        {"max_output_tokens": "8k"},
        "max_output_tokens: must be a whole number, at least 1, or null",
    ),
    (
        {"tool_id_style": "short"},
        "tool_id_style: must be one of asis40, alnum9, hash",
    ),
    ({"drop_params": "user"}, "drop_params: must be a list of strings"),
    ({"extra_body": []}, "extra_body: must be an object"),
    ({"extra_headers": {"x": 1}}, "extra_headers: must be an object with strings as values"),
    (
        {"effort_levels": ["huge"]},
        "effort_levels: must be a list of some of none, minimal, low, medium, high, xhigh, max",
    ),
    ({"empty_content": None}, "empty_content: must be a text"),
]


@pytest.mark.parametrize(("mapping", "problem"), BAD, ids=str)
def test_bad_profiles_are_told_clearly_and_do_not_stop_a_call(mapping: Any, problem: str) -> None:
    assert validate_profile(mapping) == [problem]
    if isinstance(mapping, dict):
        assert profile_for(target(**mapping)) == Profile()


def test_somebody_elses_keys_are_left_to_them() -> None:
    assert validate_profile({"billing_block": "keep"}, also=["billing_block"]) == []
    assert validate_profile({"preset": "nothing"}) != []
