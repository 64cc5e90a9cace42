"""What is particular about one OpenAI-compatible provider: its dialect, as data.

A profile is built from three layers, each overriding single keys of the one
before: the generic one, a preset guessed from the host (and sometimes the model),
and the provider's own settings, which also carry facts learned from its errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from providers.routing import EMPTY, Target
from proxy.formats.openai_chat.switches import CHECKS


@dataclass(frozen=True, slots=True)
class Profile:
    """The switches; their defaults are those of an unknown, generic server."""

    max_tokens_field: str = "max_tokens"
    default_max_tokens: int = 8192
    max_output_tokens: int | None = None
    context_window: int | None = None  # tokens; only to word a context overflow
    reasoning_param: str = "none"
    effort_levels: tuple[str, ...] = ("low", "medium", "high")
    effort_map: Mapping[str, str] = field(default_factory=dict)
    reasoning_effort_override: str | None = None  # sent with tools, whatever was asked for
    reasoning_history: str = "none"
    reasoning_accept: str = "own"
    reasoning_filler: bool | None = None  # None: unless the client switched thinking off
    thought_signature_sentinel: bool = False
    think_tags: str = "auto"
    system_role: str = "system"
    inline_system: str = "fold_user"
    images: bool = True
    tool_images: str = "user_message"
    documents: str = "placeholder"
    content_parts: bool = True
    cache_control: str = "drop"
    supports_top_k: bool = False
    sampling: str = "pass"
    stop_max: int = 4
    stream_options: bool = True
    structured_output: str = "json_schema"
    strict_tools: bool = False
    schema_dialect: str = "standard"
    supports_tools: bool = True
    force_tool_choice_auto: bool = False
    tool_id_style: str = "asis40"
    tool_name_max: int = 64
    max_tools: int = 128
    drop_tools: tuple[str, ...] = ()
    assistant_null_content: bool = True
    empty_content: str = ""  # stands for content that is empty, where that is refused
    message_alternation: bool = False
    prefill: str = "passthrough"
    user_field: str = "none"
    prompt_cache_key: bool = False
    buffer_tool_args: bool = False
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    drop_params: tuple[str, ...] = ()
    extra_headers: Mapping[str, str] = field(default_factory=dict)


_LISTS = frozenset(key.name for key in fields(Profile) if str(key.type).startswith("tuple"))

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "generic": {},
    "openai": {
        "max_tokens_field": "max_completion_tokens",
        "inline_system": "preserve",
        "documents": "file_part",
    },
    "azure": {"max_tokens_field": "max_completion_tokens", "inline_system": "preserve"},
    "openrouter": {
        "reasoning_param": "openrouter",
        "reasoning_history": "reasoning_details",
        "inline_system": "preserve",
        "documents": "file_part",
        "supports_top_k": True,
    },
    "deepseek": {
        "reasoning_param": "deepseek",
        "reasoning_history": "reasoning_content",
        "effort_levels": ("low", "high", "max"),
        "effort_map": {"medium": "high", "xhigh": "high"},
    },
    "mistral": {
        "tool_id_style": "alnum9",
        "prefill": "mistral_prefix",
        "stream_options": False,
    },
    "gemini": {
        "reasoning_param": "reasoning_effort",
        "schema_dialect": "gemini",
        "thought_signature_sentinel": True,
    },
    "groq": {},
    "kimi": {"reasoning_param": "thinking_type", "reasoning_history": "reasoning_content"},
    "mimo": {"reasoning_history": "reasoning_content"},
    "glm": {"reasoning_param": "thinking_type"},
    "qwen": {"reasoning_param": "enable_thinking"},
    "vllm": {"supports_top_k": True, "reasoning_history": "reasoning"},
    "sglang": {"supports_top_k": True},
    "llama.cpp": {
        "supports_top_k": True,
        "reasoning_history": "reasoning_content",
        "reasoning_filler": False,
        "tool_images": "inline",
    },
    "ollama": {},
}
"""Dialects by name; a provider may name one with the profile key `preset`."""

HOSTS: tuple[tuple[str, str], ...] = (
    ("api.openai.com", "openai"),
    ("*.api.openai.com", "openai"),
    ("*.openai.azure.com", "azure"),
    ("*.cognitiveservices.azure.com", "azure"),
    ("*.services.ai.azure.com", "azure"),
    ("openrouter.ai", "openrouter"),
    ("*.openrouter.ai", "openrouter"),
    ("api.deepseek.com", "deepseek"),
    ("*.mistral.ai", "mistral"),
    ("generativelanguage.googleapis.com", "gemini"),
    ("api.groq.com", "groq"),
    ("api.moonshot.*", "kimi"),
    ("api.kimi.com", "kimi"),
    ("*.xiaomimimo.com", "mimo"),
    ("open.bigmodel.cn", "glm"),
    ("api.z.ai", "glm"),
    ("dashscope*.aliyuncs.com", "qwen"),
    ("*:11434", "ollama"),
)
"""Which preset a host (or `host:port`) suggests."""

_REASONING_MODELS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (re.compile(r"gpt-(5\.[2-9]|[6-9]|\d\d)"), ("none", "low", "medium", "high", "xhigh")),
    (re.compile(r"gpt-5\.1"), ("none", "low", "medium", "high")),
    (re.compile(r"gpt-5"), ("minimal", "low", "medium", "high")),
    (re.compile(r"o\d"), ("low", "medium", "high")),
)
"""OpenAI's reasoning models and the efforts they know (OpenAI's reasoning guide)."""

_CHAT_MODELS = re.compile(r"gpt-5[\w.]*-chat")
_CACHING_MODELS = ("anthropic/", "google/")


def profile_for(target: Target) -> Profile:
    """The profile of one target. Settings that `validate_profile` objects to have no effect."""
    settings = target.provider.profile or EMPTY
    name = settings.get("preset")
    if not isinstance(name, str) or name not in PRESETS:
        name = guess_preset(target.provider.base_url)
    preset = _preset_profile(name, target.model)
    return replace(preset, **_accepted(settings)) if settings else preset


@lru_cache(maxsize=256)
def guess_preset(base_url: str) -> str:
    """The name of the preset that belongs to a base URL's host, "generic" for any other."""
    try:
        host = urlsplit(base_url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return "generic"
    names = (host, host.partition(":")[0])
    for pattern, preset in HOSTS:
        if any(fnmatchcase(name, pattern) for name in names):
            return preset
    return "generic"


@lru_cache(maxsize=1024)
def _preset_profile(name: str, model: str) -> Profile:
    settings = dict(PRESETS[name])
    if name in ("openai", "azure"):
        settings |= _openai_model(model)
    if name == "openrouter" and model.startswith(_CACHING_MODELS):
        settings["cache_control"] = "keep"
    return Profile(**settings)


def _openai_model(model: str) -> Mapping[str, Any]:
    """Reasoning models take an effort and no sampling parameters; the others the reverse."""
    bare = model.rpartition("/")[2]
    if _CHAT_MODELS.match(bare):
        return {}
    for pattern, levels in _REASONING_MODELS:
        if pattern.match(bare):
            return {
                "reasoning_param": "reasoning_effort",
                "effort_levels": levels,
                "sampling": "drop",
                "stop_max": 0,
            }
    return {}


def _accepted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that pass their check, as the fields' types want them."""
    return {
        key: tuple(value) if key in _LISTS else value
        for key, value in settings.items()
        if key in CHECKS and not CHECKS[key](value)
    }
