"""Well-known providers: what their form is filled with.

Addresses, headers and model names are those that each provider documents for Claude Code or for
its OpenAI-compatible API (November 2026). Where an address is one's own, a part in CAPITALS has
to be replaced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from providers.routing import Credentials, WireFormat

Mappings = tuple[tuple[str, str], ...]
"""(model asked for, model sent)."""

BEARER = "Authorization"
API_KEY = "x-api-key"

PLACEHOLDERS = ("RESOURCE", "MODEL")
"""Parts of an address or a mapping that stand for something of one's own."""

GATEWAY, CLOUD, LOCAL = _("Gateways to many models"), _("In the cloud"), _("On your machines")
GROUPS = (CLOUD, GATEWAY, LOCAL)


@dataclass(frozen=True, slots=True)
class Preset:
    """One well-known provider. `key_url` is where its keys are made."""

    slug: str
    label: str
    about: str | Promise
    group: Any
    base_url: str
    format: WireFormat = WireFormat.ANTHROPIC
    auth_header: str = API_KEY
    credentials: Credentials = Credentials.OWN
    key_url: str = ""
    mappings: Mappings = ()
    profile: Mapping[str, Any] = field(default_factory=dict)
    api_key: str = ""
    """A stand-in where a server wants some key, and takes any."""

    @property
    def form_values(self) -> dict[str, Any]:
        """Initial values of the provider's form."""
        return {
            "name": self.slug,
            "base_url": self.base_url,
            "format": self.format.value,
            "credentials": self.credentials.value,
            "auth_header": self.auth_header,
            "profile": dict(self.profile),
        }


def _families(opus: str, sonnet: str, haiku: str, rest: str = "") -> Mappings:
    """A model for each of Claude's families, and one for whatever else is asked for."""
    families = (("claude-opus-*", opus), ("claude-sonnet-*", sonnet), ("claude-haiku-*", haiku))
    return (*families, ("*", rest or sonnet))


_OPENAI = WireFormat.OPENAI
_CLAUDE = (
    ("claude-opus-*", "anthropic/claude-opus-4.8"),
    ("claude-sonnet-*", "anthropic/claude-sonnet-5"),
    ("claude-haiku-*", "anthropic/claude-haiku-4.5"),
)
"""What gateways call Claude's own models."""

PRESETS: tuple[Preset, ...] = (
    Preset(
        "anthropic-key",
        "Anthropic API key",
        _("The same models as the primary, paid by use: for when a subscription is used up."),
        CLOUD,
        "https://api.anthropic.com",
        key_url="https://platform.claude.com/settings/keys",
    ),
    Preset(
        "openrouter",
        "OpenRouter",
        _("Claude and hundreds of other models, through Anthropic's own format."),
        GATEWAY,
        "https://openrouter.ai/api",
        auth_header=BEARER,
        key_url="https://openrouter.ai/settings/keys",
        mappings=_CLAUDE,
    ),
    Preset(
        "vercel",
        "Vercel AI Gateway",
        _("Claude and other models on one bill, through Anthropic's own format."),
        GATEWAY,
        "https://ai-gateway.vercel.sh",
        key_url="https://vercel.com/dashboard/ai-gateway",
        mappings=_CLAUDE,
    ),
    Preset(
        "kimi",
        "Kimi (Moonshot AI)",
        _("Kimi's models through Anthropic's format. In China the host is api.moonshot.cn."),
        CLOUD,
        "https://api.moonshot.ai/anthropic",
        auth_header=BEARER,
        key_url="https://platform.moonshot.ai/console/api-keys",
        mappings=_families("kimi-k3", "kimi-k3", "kimi-k2.5"),
    ),
    Preset(
        "glm",
        "GLM (Z.ai)",
        _("GLM models of the coding plan, through Anthropic's format."),
        CLOUD,
        "https://api.z.ai/api/anthropic",
        auth_header=BEARER,
        key_url="https://z.ai/manage-apikey/apikey-list",
        mappings=_families("glm-5.3", "glm-5.3", "glm-5.3-flash"),
    ),
    Preset(
        "deepseek",
        "DeepSeek",
        _("DeepSeek's models through Anthropic's format."),
        CLOUD,
        "https://api.deepseek.com/anthropic",
        key_url="https://platform.deepseek.com/api_keys",
        mappings=_families("deepseek-v4-pro", "deepseek-flash", "deepseek-flash"),
    ),
    Preset(
        "minimax",
        "MiniMax",
        _("MiniMax models through Anthropic's format. In China the host is api.minimaxi.com."),
        CLOUD,
        "https://api.minimax.io/anthropic",
        key_url="https://platform.minimax.io/user-center/basic-information/interface-key",
        mappings=_families("MiniMax-M3", "MiniMax-M3", "MiniMax-M2.7-highspeed"),
    ),
    Preset(
        "openai",
        "OpenAI",
        _("GPT models; calls are translated to Chat Completions."),
        CLOUD,
        "https://api.openai.com/v1",
        _OPENAI,
        BEARER,
        key_url="https://platform.openai.com/api-keys",
        mappings=_families("gpt-5.2", "gpt-5.2", "gpt-5-mini"),
    ),
    Preset(
        "azure-openai",
        "Azure OpenAI",
        _("Put your resource's name into the URL; models are called by their deployments' names."),
        CLOUD,
        "https://RESOURCE.openai.azure.com/openai/v1",
        _OPENAI,
        "api-key",
        key_url="https://ai.azure.com",
        mappings=_families("gpt-5.2", "gpt-5.2", "gpt-5-mini"),
    ),
    Preset(
        "gemini",
        "Google Gemini",
        _("Gemini models through Google's OpenAI-compatible API."),
        CLOUD,
        "https://generativelanguage.googleapis.com/v1beta/openai",
        _OPENAI,
        BEARER,
        key_url="https://aistudio.google.com/apikey",
        mappings=_families("gemini-3.1-pro-preview", "gemini-3.8-flash", "gemini-3.5-flash-lite"),
    ),
    Preset(
        "xai",
        "xAI",
        _("Grok models; calls are translated to Chat Completions."),
        CLOUD,
        "https://api.x.ai/v1",
        _OPENAI,
        BEARER,
        key_url="https://console.x.ai",
        mappings=_families("grok-4.7", "grok-4.7", "grok-4.6"),
    ),
    Preset(
        "mistral",
        "Mistral",
        _("Mistral's models; calls are translated to Chat Completions."),
        CLOUD,
        "https://api.mistral.ai/v1",
        _OPENAI,
        BEARER,
        key_url="https://console.mistral.ai/api-keys",
        mappings=_families("mistral-large-latest", "devstral-latest", "mistral-small-latest"),
    ),
    Preset(
        "groq",
        "Groq",
        _("Open models, very fast; calls are translated to Chat Completions."),
        CLOUD,
        "https://api.groq.com/openai/v1",
        _OPENAI,
        BEARER,
        key_url="https://console.groq.com/keys",
        mappings=_families("openai/gpt-oss-120b", "openai/gpt-oss-120b", "openai/gpt-oss-20b"),
    ),
    Preset(
        "ollama",
        "Ollama",
        _("Models on a machine of yours. Version 0.14, and a context of 64k tokens, or more."),
        LOCAL,
        "http://localhost:11434",
        auth_header=BEARER,
        mappings=(("*", "qwen3-coder"),),
        api_key="ollama",
    ),
    Preset(
        "vllm",
        "vLLM",
        _("A vLLM server of yours; name the model that it was started with."),
        LOCAL,
        "http://localhost:8000/v1",
        _OPENAI,
        BEARER,
        mappings=(("*", "MODEL"),),
        profile={"preset": "vllm"},
        api_key="EMPTY",
    ),
    Preset(
        "llama-cpp",
        "llama.cpp",
        _("A llama-server of yours, started with --jinja."),
        LOCAL,
        "http://localhost:8080/v1",
        _OPENAI,
        BEARER,
        profile={"preset": "llama.cpp"},
        api_key="none",
    ),
    Preset(
        "litellm",
        "LiteLLM",
        _("A LiteLLM proxy of yours, through its Anthropic format."),
        GATEWAY,
        "http://localhost:4000",
        key_url="https://docs.litellm.ai/docs/proxy/virtual_keys",
    ),
)
"""In the order in which they are offered, inside their groups."""

BY_SLUG: Mapping[str, Preset] = {preset.slug: preset for preset in PRESETS}


def placeholder_in(text: str) -> str:
    """What in it has still to be replaced; "" for nothing."""
    words = re.split(r"[^A-Z]+", text)
    return next((word for word in PLACEHOLDERS if word in words), "")
