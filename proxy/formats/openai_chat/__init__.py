"""OpenAI Chat Completions as an upstream of Anthropic Messages clients."""

from proxy.formats.openai_chat.format import OPENAI_CHAT
from proxy.formats.openai_chat.validation import validate_profile

__all__ = ["OPENAI_CHAT", "validate_profile"]
