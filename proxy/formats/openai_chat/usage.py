"""Token usage: OpenAI's count, in which cached tokens are part of the prompt, as Anthropic's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.usage import Usage

_CACHE_READ = (
    ("cache_read_input_tokens",),
    ("prompt_tokens_details", "cached_tokens"),
    ("prompt_cache_hit_tokens",),  # DeepSeek
    ("cached_tokens",),  # Kimi
)
_CACHE_WRITE = (
    ("cache_creation_input_tokens",),
    ("prompt_tokens_details", "cache_write_tokens"),
    ("prompt_tokens_details", "cache_creation_tokens"),
)
_REASONING = (("completion_tokens_details", "reasoning_tokens"),)
_PROMPT = (("prompt_tokens",), ("input_tokens",))
_COMPLETION = (("completion_tokens",), ("output_tokens",))
_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Counts:
    """Tokens as Anthropic counts them: the prompt is input + cache_read + cache_creation."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_creation: int = 0
    thinking: int = 0
    estimated: bool = False

    def as_usage(self) -> dict[str, Any]:
        """Anthropic's `usage` object, in which four figures are always present."""
        usage: dict[str, Any] = {
            "input_tokens": self.input,
            "cache_creation_input_tokens": self.cache_creation,
            "cache_read_input_tokens": self.cache_read,
            "output_tokens": self.output,
        }
        if self.thinking:
            usage["output_tokens_details"] = {"thinking_tokens": self.thinking}
        return usage

    def record(self, usage: Usage) -> None:
        usage.input, usage.output = self.input, self.output
        usage.cache_read, usage.cache_creation = self.cache_read, self.cache_creation
        usage.estimated = self.estimated


def read_counts(raw: Any, *, input_estimate: int, output_estimate: int) -> Counts:
    """The counts of one reply. What the upstream does not say, or says is nothing, is estimated.

    Clients steer by these figures (context meter, compaction), so they are never
    left at 0 for want of knowledge.
    """
    usage = raw if isinstance(raw, Mapping) else {}
    prompt, completion = _first(usage, _PROMPT), _first(usage, _COMPLETION)
    reasoning = _first(usage, _REASONING)
    if reasoning and _integer(usage.get("total_tokens")) == prompt + completion + reasoning:
        completion += reasoning  # xAI counts reasoning beside the completion
    read, write = _first(usage, _CACHE_READ), _first(usage, _CACHE_WRITE)
    guess_input = not prompt
    guess_output = not completion and output_estimate > 0
    return Counts(
        input=input_estimate if guess_input else max(0, prompt - read - write),
        output=output_estimate if guess_output else completion,
        cache_read=0 if guess_input else read,
        cache_creation=0 if guess_input else write,
        thinking=reasoning,
        estimated=guess_input or guess_output,
    )


def _first(usage: Mapping[str, Any], paths: Iterable[tuple[str, ...]]) -> int:
    """The first figure among `paths` that is not nothing."""
    for path in paths:
        value: Any = usage
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        number = _integer(value)
        if number:
            return number
    return 0


def _integer(value: Any) -> int:
    """A count, 0 for anything that is none: booleans, negatives, text, what no prompt can have."""
    if isinstance(value, bool):
        return 0
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() and len(value) < 19 else 0
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and 0 < value <= _MAX else 0
