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
    "exceed context window",  # llama-cpp-python
    "contextwindowexceedederror",  # LiteLLM's name for all of them
    "longer than the maximum model length",  # vLLM
    "exceed the configured limit",  # OpenAI
    "exceed model maximum",  # Bedrock
    "exceed context limit",
    "context length exceeded",
    "maximum context limit",
    "input too long",
)
_FRAGMENT_PAIRS = (
    ("input token count", "exceeds"),  # Gemini
    ("prompt token count", "exceeds the limit"),  # GitHub Copilot
    ("too many tokens", "in the prompt"),  # Cohere
    ("current length is", "while limit is"),  # Cerebras
    ("`inputs`", "`max_new_tokens`"),  # TGI
)
_RATE_LIMIT = re.compile(r"tokens per min|requests per min|\btpm\b|rate_limit_exceeded")
_NUMBER = r"(\d[\d,]*)"

_SIZE, _OUTPUT, _LIMIT = (rf"(?P<{name}>\d[\d,]*)" for name in ("size", "output", "limit"))

# Where a text has all three figures, the input alone may fit.
_FITTING = tuple(
    re.compile(pattern)
    for pattern in (
        rf"maximum context length is {_LIMIT} tokens\D+requested \d[\d,]* tokens "
        rf"\((?:about )?{_SIZE} (?:in the messages|of text input|in the prompt)\D*{_OUTPUT}",
        rf"passed {_SIZE} input tokens and requested {_OUTPUT} output tokens\D+{_LIMIT}",
        rf"request has {_SIZE} input tokens \({_OUTPUT} > {_LIMIT} - ",
        rf"context limit: {_SIZE} \+ {_OUTPUT} > {_LIMIT}",
        rf"must be <= {_LIMIT}\. given: {_SIZE} `inputs` tokens and {_OUTPUT}",
    )
)
_LIMITS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"> ?{_NUMBER} maximum",
        rf"context window of {_NUMBER}",
        rf"must be <= {_NUMBER}",
        rf"in the prompt cannot exceed {_NUMBER}",
        rf"maximum model length of {_NUMBER}",
        rf"exceed model maximum \({_NUMBER}\)",
        rf"maximum number of tokens allowed \({_NUMBER}\)",
        rf"maximum context length (?:is|of)\D{{0,12}}{_NUMBER}",
        rf"maximum prompt length is {_NUMBER}",
        rf"exceeded model token limit\D{{0,12}}{_NUMBER}",
        rf"context length(?: is| of)(?: only)? {_NUMBER}",
        rf"range of input length should be \[\d+, ?{_NUMBER}\]",
        rf'"n_ctx": ?{_NUMBER}',
        rf"context (?:size|window|length)(?: limit)?(?: is| of|:)? ?\(?{_NUMBER}",
        rf"\b(?:limit|maximum|max)(?: is| of|:)? {_NUMBER}",
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
        rf"requested tokens \({_NUMBER}\)",
        rf"given: {_NUMBER}",
        rf"received {_NUMBER}",
        rf"token count of {_NUMBER}",
        rf"current length is {_NUMBER}",
        rf"decoder prompt \(length {_NUMBER}\)",
        rf"prompt tokens \({_NUMBER}\)",
        rf"input too long: {_NUMBER}",
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
    return any(fragment in text for fragment in _FRAGMENTS) or any(
        one in text and other in text for one, other in _FRAGMENT_PAIRS
    )


def reworded(fault: Fault, *, input_estimate: int, context_window: int | None) -> str:
    """The overflow as Claude Code knows it, with the numbers that the text has.

    A missing prompt size is estimated, a missing limit taken from the profile; if
    no limit is known, numbers would only mislead.
    """
    text = fault.words
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
    for pattern in _FITTING:
        match = pattern.search(text)
        if match is not None:
            size, output, limit = map(_figure, match.group("size", "output", "limit"))
            return (size, output, limit) if size < limit else None
    return None


def _find(patterns: tuple[re.Pattern[str], ...], text: str) -> int:
    for pattern in patterns:
        match = pattern.search(text)
        if match is not None:
            return _figure(match.group(1))
    return 0


def _figure(text: str) -> int:
    return int(text.replace(",", ""))
