"""Whether a request fits a model's context, and how much output it may ask for."""

from __future__ import annotations

from dataclasses import dataclass

MARGIN = 64
"""Tokens kept free, because two sides never count a prompt alike."""
MIN_OUTPUT = 1024
"""Less room than this is no room: an answer cut so short helps nobody."""


@dataclass(frozen=True, slots=True)
class Fit:
    """`max_tokens`: what to ask for, None where nothing was asked for and nothing limits it."""

    fits: bool
    max_tokens: int | None


def fits(
    estimate: int, max_tokens: int | None, context_window: int | None, max_output: int | None
) -> Fit:
    """How a prompt of `estimate` tokens fits a model, all figures in tokens, None for unknown.

    The output that was asked for shrinks to the model's limit and to the room
    that the prompt leaves. A prompt that leaves less room than asked for and
    less than 1024 tokens does not fit.
    """
    limits = [limit for limit in (max_tokens, max_output) if limit is not None]
    asked = min(limits, default=None)
    if context_window is None:
        return Fit(True, asked)
    room = context_window - max(0, estimate) - MARGIN
    if asked is not None and asked <= room:
        return Fit(True, asked)
    if room < MIN_OUTPUT:
        return Fit(False, asked)
    return Fit(True, room if asked is not None else None)
