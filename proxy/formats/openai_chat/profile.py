"""What is particular about one OpenAI-compatible provider: its dialect, as data.

A profile is built from three layers, each overriding single keys of the one
before: the generic one, a preset guessed from the host (and sometimes the model),
and the provider's own settings, which also carry facts learned from its errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from providers.routing import EMPTY, Target

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Levels of reasoning effort, weakest first. `none` is only ever sent to switch reasoning off."""


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

FOREIGN_KEY = "repairs"
"""The profile key that switches repairs on and off; it is not about the dialect."""

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


# Each check says what a value has to be, None if it is.
_Check = Callable[[Any], str | None]


def _one_of(*choices: str) -> _Check:
    wanted = "must be one of " + ", ".join(choices)
    return lambda value: None if isinstance(value, str) and value in choices else wanted


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _integer(least: int) -> _Check:
    def check(value: Any) -> str | None:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return None if whole and value >= least else f"must be a whole number, at least {least}"

    return check


def _nullable(check: _Check) -> _Check:
    def nullable(value: Any) -> str | None:
        problem = None if value is None else check(value)
        return f"{problem}, or null" if problem else None

    return nullable


def _strings(value: Any) -> str | None:
    listed = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
    return None if listed else "must be a list of strings"


def _efforts(value: Any) -> str | None:
    if not _strings(value) and value and all(level in EFFORTS for level in value):
        return None
    return "must be a list of some of " + ", ".join(EFFORTS)


def _effort_map(value: Any) -> str | None:
    if isinstance(value, Mapping) and all(
        key in EFFORTS and level in EFFORTS for key, level in value.items()
    ):
        return None
    return "must map efforts to efforts, out of " + ", ".join(EFFORTS)


def _string_map(value: Any) -> str | None:
    mapped = isinstance(value, Mapping) and all(isinstance(item, str) for item in value.values())
    return None if mapped else "must be an object with strings as values"


def _object(value: Any) -> str | None:
    return None if isinstance(value, Mapping) else "must be an object"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else "must be a text"


_CHECKS: Mapping[str, _Check] = {
    "max_tokens_field": _one_of("max_tokens", "max_completion_tokens"),
    "default_max_tokens": _integer(1),
    "max_output_tokens": _nullable(_integer(1)),
    "context_window": _nullable(_integer(1)),
    "reasoning_param": _one_of(
        "none",
        "reasoning_effort",
        "openrouter",
        "deepseek",
        "enable_thinking",
        "chat_template_kwargs",
        "thinking_type",
    ),
    "effort_levels": _efforts,
    "effort_map": _effort_map,
    "reasoning_effort_override": _nullable(_one_of(*EFFORTS)),
    "reasoning_history": _one_of("none", "reasoning_content", "reasoning", "reasoning_details"),
    "reasoning_accept": _one_of("own", "any"),
    "reasoning_filler": _nullable(_boolean),
    "thought_signature_sentinel": _boolean,
    "think_tags": _one_of("auto", "off"),
    "system_role": _one_of("system", "developer"),
    "inline_system": _one_of("fold_user", "preserve"),
    "images": _boolean,
    "tool_images": _one_of("user_message", "inline"),
    "documents": _one_of("placeholder", "file_part"),
    "content_parts": _boolean,
    "cache_control": _one_of("drop", "keep"),
    "supports_top_k": _boolean,
    "sampling": _one_of("pass", "drop"),
    "stop_max": _integer(0),
    "stream_options": _boolean,
    "structured_output": _one_of("json_schema", "json_object", "none"),
    "strict_tools": _boolean,
    "schema_dialect": _one_of("standard", "gemini"),
    "supports_tools": _boolean,
    "force_tool_choice_auto": _boolean,
    "tool_id_style": _one_of("asis40", "alnum9", "hash"),
    "tool_name_max": _integer(16),
    "max_tools": _integer(1),
    "drop_tools": _strings,
    "assistant_null_content": _boolean,
    "empty_content": _text,
    "message_alternation": _boolean,
    "prefill": _one_of("passthrough", "append_user", "mistral_prefix"),
    "user_field": _one_of("none", "hash"),
    "prompt_cache_key": _boolean,
    "buffer_tool_args": _boolean,
    "extra_body": _object,
    "drop_params": _strings,
    "extra_headers": _string_map,
}
_LISTS = frozenset(key.name for key in fields(Profile) if str(key.type).startswith("tuple"))


def validate_profile(mapping: Mapping[str, Any], *, also: Iterable[str] = ()) -> list[str]:
    """What is wrong with a provider's profile, a phrase each; empty if it is fine.

    `also` are keys that somebody else reads and checks.
    """
    if not isinstance(mapping, Mapping):
        return ["The profile must be a JSON object."]
    problems = []
    foreign = {FOREIGN_KEY, *also}
    for key, value in mapping.items():
        if key in foreign:
            continue
        if key == "preset":
            problem = _one_of(*PRESETS)(value)
        elif key in _CHECKS:
            problem = _CHECKS[key](value)
        else:
            alike = get_close_matches(str(key), ["preset", *_CHECKS], n=1)
            problem = "is not a known setting" + "".join(
                f"; did you mean {name}?" for name in alike
            )
        if problem:
            problems.append(f"{key}: {problem}")
    return problems


def _accepted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that pass their check, as the fields' types want them."""
    return {
        key: tuple(value) if key in _LISTS else value
        for key, value in settings.items()
        if key in _CHECKS and not _CHECKS[key](value)
    }
