"""Thinking blocks in the history: signatures that an upstream does not accept, and what follows.

Thinking is signed by the provider that produced it. A history that went through
several providers holds signatures that the next one refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from providers.routing import Target
from proxy.rectifiers.base import ANTHROPIC, Draft, Rule, on_document, switch, wording
from proxy.rectifiers.document import (
    Block,
    Document,
    Message,
    blocks_of,
    kind,
    map_blocks,
    map_objects,
    messages_of,
    put,
    role,
    without,
)

THINKING_KINDS = frozenset({"thinking", "redacted_thinking"})
SIGNED_BY_MISTAKE = frozenset({"text", "tool_use"})
CLEAR_THINKING = "clear_thinking_"
KEEP_THINKING = "keep_thinking"


def is_thinking(block: Block) -> bool:
    return kind(block) in THINKING_KINDS


def drop_thinking(document: Document, unwanted: Callable[[Block], bool]) -> Document:
    """The document without unwanted thinking blocks, nor messages that they leave empty."""

    def change(block: Block) -> Block | None:
        return None if is_thinking(block) and unwanted(block) else block

    return map_blocks(document, change, roles=("assistant",))


def last_turn_lacks_thinking(document: Document) -> bool:
    """Whether the assistant turn that goes on does not begin with thinking.

    That turn reaches back over tool results to the last thing the user said.
    With `thinking.type` "enabled" the API insists on thinking at its start.
    """
    first: Message | None = None
    for message in reversed(messages_of(document)):
        if role(message) == "assistant":
            first = message
        elif role(message) == "user" and not _has_tool_result(message):
            break
    return first is not None and not any(is_thinking(block) for block in blocks_of(first)[:1])


def _has_tool_result(message: Message) -> bool:
    return any(kind(block) == "tool_result" for block in blocks_of(message))


def thinking_type(document: Document) -> str:
    """ "enabled", "adaptive", "disabled", or "" without a setting."""
    return kind(document.get("thinking"))


def without_thinking_setting(document: Document) -> Document:
    """The document without `thinking`, nor the context edit that may only go with it."""
    return drop_clear_thinking(without(document, "thinking"))


def drop_unbacked_thinking(document: Document) -> Document:
    """Thinking switched off where the last turn cannot carry it. Adaptive thinking may stay."""
    if thinking_type(document) == "enabled" and last_turn_lacks_thinking(document):
        return without_thinking_setting(document)
    return document


def drop_clear_thinking(document: Document) -> Document:
    """The document without `clear_thinking_*` among its context edits."""
    management = document.get("context_management")
    if not isinstance(management, dict):
        return document
    after = map_objects(
        management, "edits", lambda edit: None if kind(edit).startswith(CLEAR_THINKING) else edit
    )
    if after is management:
        return document
    return (
        put(document, "context_management", after)
        if after
        else without(document, "context_management")
    )


def _strip_signatures(document: Document) -> Document:
    def change(block: Block) -> Any:
        return without(block, "signature") if kind(block) in SIGNED_BY_MISTAKE else block

    return map_blocks(document, change, roles=("assistant",), keep_empty=True)


def _strip_all(draft: Draft, said: str, target: Target) -> Draft | None:
    if switch(draft, target, KEEP_THINKING):
        return None
    document = _strip_signatures(drop_thinking(draft.document, lambda block: True))
    if document is draft.document:
        return None
    return replace(draft, document=drop_unbacked_thinking(document))


def _drop_enabled(document: Document) -> Document:
    return without_thinking_setting(document) if thinking_type(document) == "enabled" else document


def _disable(draft: Draft, said: str, target: Target) -> Draft | None:
    if thinking_type(draft.document) == "disabled":
        return None
    document = drop_clear_thinking(put(draft.document, "thinking", {"type": "disabled"}))
    return replace(draft, document=document, profile={**draft.profile, KEEP_THINKING: True})


THINKING_REQUIRED = Rule(
    name="thinking_required",
    label="Switch thinking off where the provider wants its own thinking back",
    formats=ANTHROPIC,
    says=wording(
        r"(?:reasoning_content|content\[\]\.thinking) in the thinking mode must be passed back",
    ),
    mend=_disable,
    why="wording of third parties; Anthropic never asks for thinking it did not sign",
    learns=frozenset({KEEP_THINKING}),
)
THINKING_SIGNATURE = Rule(
    name="thinking_signature",
    label="Drop thinking that the provider did not sign",
    formats=ANTHROPIC,
    says=wording(
        r"invalid (?:signature|data) in (?:redacted_)?thinking block",
        r"\bthinking\.signature: field required",
        r"(?<![\w-])signature: extra inputs are not permitted",
        r"thought signature is not valid",
        r"each thinking block must contain thinking",
        r"thinking or redacted_thinking blocks in the latest assistant message cannot be modified",
    ),
    mend=_strip_all,
    why="Claude Code strips thinking itself when it reads this wording",
)
THINKING_START = Rule(
    name="thinking_start",
    label="Switch thinking off when the last turn does not start with thinking",
    formats=ANTHROPIC,
    says=wording(
        r"expected thinking or redacted_thinking,? but found",
        r"final assistant message must start with a thinking block",
    ),
    mend=on_document(_drop_enabled),
    on_primary=True,
    why="a turn begun by another provider has no thinking; the session would stay broken",
)
CLEAR_THINKING_EDIT = Rule(
    name="clear_thinking_edit",
    label="Drop the context edit for thinking when thinking is off",
    formats=ANTHROPIC,
    says=wording(r"clear_thinking_\d+ strategy requires thinking to be enabled"),
    mend=on_document(drop_clear_thinking),
    on_primary=True,
    why="Claude Code repeats the same body",
)

REPAIRS = (THINKING_REQUIRED, THINKING_START, THINKING_SIGNATURE, CLEAR_THINKING_EDIT)
