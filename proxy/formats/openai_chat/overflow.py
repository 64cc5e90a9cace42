"""A prompt that is too long, in the one wording that makes Claude Code shrink it.

Claude Code compacts a conversation by itself, but only when it recognises the
error: `prompt is too long: N tokens > M maximum`, or, where a smaller
`max_tokens` is enough, `input length and max_tokens exceed context limit: A + B > C`.
"""

from __future__ import annotations

import re

from proxy.formats.openai_chat.faults import Fault

_FRAGMENTS = (
    "maximum context length",
    "context_length_exceeded",
    "exceeds the context window",
    "context window exceeds",
    "maximum prompt length is",
    "reduce the length of the messages",
    "reduce the length of the input",
    "exceeds the available context size",
    "exceed_context_size_error",
    "greater than the context length",
    "longer than the model's context length",
    "context length is only",
    "context length of only",
    "exceeded model token limit",
    "prompt exceeds max length",
    "range of input length",
    "too large for model with",
    "input is too long",
    "prompt is too long",
    "prompt too long",
)
_RATE_LIMIT = re.compile(r"tokens per min|requests per min|\btpm\b|rate_limit_exceeded")
_NUMBER = r"(\d[\d,]*)"

# Input and output tokens, and the limit, where the input alone would fit.
_FITTING = tuple(
    re.compile(pattern)
    for pattern in (
        rf"maximum context length is {_NUMBER} tokens\D+requested {_NUMBER} tokens "
        rf"\((?:about )?{_NUMBER} (?:in the messages|of text input|in the prompt)\D*{_NUMBER}",
        rf"passed {_NUMBER} input tokens and requested {_NUMBER} output tokens\D+{_NUMBER}",
        rf"request has {_NUMBER} input tokens \({_NUMBER} > {_NUMBER} - ",
    )
)
_LIMITS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"> ?{_NUMBER} maximum",
        rf"maximum number of tokens allowed \({_NUMBER}\)",
        rf"maximum context length (?:is|of)\D{{0,12}}{_NUMBER}",
        rf"maximum prompt length is {_NUMBER}",
        rf"exceeded model token limit\D{{0,12}}{_NUMBER}",
        rf"context length(?: is| of)(?: only)? {_NUMBER}",
        rf"range of input length should be \[\d+, ?{_NUMBER}\]",
        rf'"n_ctx": ?{_NUMBER}',
        rf"context (?:size|window|length)(?: limit)?(?: is| of|:)? ?\(?{_NUMBER}",
        rf"(?:limit|maximum|max)(?: is| of|:)? {_NUMBER}",
    )
)
_SIZES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"too long:? {_NUMBER} tokens",
        rf"input token count(?: is)? ?\(?{_NUMBER}",
        rf"resulted in {_NUMBER}",
        rf"request contains {_NUMBER}",
        rf'"n_prompt_tokens": ?{_NUMBER}',
        rf"\(?requested:? (?:about )?{_NUMBER}",
        rf"(?:prompt|input|messages|request) (?:has|have|contains?|is|of) {_NUMBER}",
        rf"passed {_NUMBER}",
        rf"keep the first {_NUMBER}",
        rf"{_NUMBER} tokens? (?:exceeds?|>|is greater|is longer)",
    )
)


def is_rate_limit(fault: Fault) -> bool:
    """Whether it is a limit per minute, which some servers report as a request too large."""
    return _RATE_LIMIT.search(fault.haystack) is not None


def is_overflow(fault: Fault) -> bool:
    text = fault.haystack
    if is_rate_limit(fault):
        return False
    return any(fragment in text for fragment in _FRAGMENTS) or (
        "input token count" in text and "exceeds" in text
    )


def reworded(fault: Fault, *, input_estimate: int, context_window: int | None) -> str:
    """The overflow as Claude Code knows it, with the numbers that the text has.

    A missing prompt size is estimated, a missing limit taken from the profile; if
    no limit is known, numbers would only mislead.
    """
    text = fault.haystack
    fitting = _fitting(text)
    if fitting is not None:
        size, output, limit = fitting
        return f"input length and `max_tokens` exceed context limit: {size} + {output} > {limit}"
    limit = _find(_LIMITS, text) or context_window or 0
    size = _find(_SIZES, text)
    if not limit or (size and size <= limit):
        return "prompt is too long"
    return f"prompt is too long: {size or max(input_estimate, limit + 1)} tokens > {limit} maximum"


def _fitting(text: str) -> tuple[int, int, int] | None:
    """Input, output and limit, if the input alone is below the limit."""
    for number, pattern in enumerate(_FITTING):
        match = pattern.search(text)
        if match is None:
            continue
        figures = [int(figure.replace(",", "")) for figure in match.groups()]
        if number == 0:
            limit, _, size, output = figures
        else:
            size, output, limit = figures
        return (size, output, limit) if size < limit else None
    return None


def _find(patterns: tuple[re.Pattern[str], ...], text: str) -> int:
    for pattern in patterns:
        match = pattern.search(text)
        if match is not None:
            return int(match.group(1).replace(",", ""))
    return 0
