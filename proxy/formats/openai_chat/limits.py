"""What ends a reply: how long it may be, and the texts that stop it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.errors import RequestRefused
from proxy.formats.openai_chat.profile import Profile


def output_limit(document: Mapping[str, Any], profile: Profile) -> int:
    """`max_tokens` of the request, or the profile's. 0 is a legal request to warm the cache."""
    limit = document.get("max_tokens")
    if limit is None:
        return profile.default_max_tokens
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise RequestRefused("max_tokens: must be a whole number")
    if limit < 0:
        raise RequestRefused("max_tokens: must be at least 0")
    return limit


def stop_sequences(document: Mapping[str, Any]) -> list[str]:
    sequences = document.get("stop_sequences")
    if not isinstance(sequences, list):
        return []
    return [text for text in sequences if isinstance(text, str) and text]
