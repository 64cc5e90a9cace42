"""System messages amid the conversation, for upstreams that know user and assistant only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from providers.routing import Target
from proxy.rectifiers.base import ANTHROPIC, Draft, Rule, wording
from proxy.rectifiers.document import Block, Document, blocks_of, kind, listed, put, role, without

FOLDED = "fold_user"


def fold_inline_system(document: Document) -> Document:
    """The document with system messages told by the user, where they stood.

    One before the first user message joins the system prompt. A later one
    becomes a `<system-reminder>` at the end of the user message before it, or,
    after the assistant, in the user message that follows, behind tool results.
    It is never moved to the front: that would change the prompt's head each turn.
    """
    messages = listed(document, "messages")
    if not any(role(message) == "system" for message in messages):
        return document
    leading: list[str] = []
    waiting: list[Block] = []
    folded: list[Any] = []
    for message in messages:
        if role(message) != "system":
            if role(message) == "user" and waiting:
                message, waiting = _joined(message, waiting, at=_after_results(message)), []
            folded.append(message)
        elif not folded:
            leading.append(_text(message))
        elif role(folded[-1]) == "user":
            folded[-1] = _joined(folded[-1], _reminder(message), at=None)
        else:
            waiting += _reminder(message)
    if waiting:
        folded.append({"role": "user", "content": waiting})
    document = _with_system(document, [text for text in leading if text])
    return put(document, "messages", folded) if folded else document


def _text(message: Mapping[str, Any]) -> str:
    pieces = (str(block.get("text") or "") for block in blocks_of(message) if kind(block) == "text")
    return "\n\n".join(piece for piece in pieces if piece.strip())


def _reminder(message: Mapping[str, Any]) -> list[Block]:
    text = _text(message)
    if not text:
        return []
    block: Block = {"type": "text", "text": f"<system-reminder>\n{text}\n</system-reminder>"}
    marks = [b["cache_control"] for b in blocks_of(message) if b.get("cache_control") is not None]
    return [{**block, "cache_control": marks[-1]} if marks else block]


def _joined(message: Mapping[str, Any], blocks: list[Block], at: int | None) -> Mapping[str, Any]:
    if not blocks:
        return message
    content = listed(message, "content") or list(blocks_of(message))
    at = len(content) if at is None else at
    return {**message, "content": [*content[:at], *blocks, *content[at:]]}


def _after_results(message: Mapping[str, Any]) -> int:
    content = listed(message, "content")
    return max(
        (i + 1 for i, block in enumerate(content) if kind(block) == "tool_result"), default=0
    )


def _with_system(document: Document, texts: list[str]) -> Document:
    if not texts:
        return document
    system = document.get("system")
    if isinstance(system, list):
        return put(document, "system", [*system, *({"type": "text", "text": t} for t in texts)])
    told = [system] if isinstance(system, str) and system.strip() else []
    return {"system": "\n\n".join([*told, *texts]), **without(document, "system")}


def _fold(draft: Draft, said: str, target: Target) -> Draft | None:
    document = fold_inline_system(draft.document)
    if document is draft.document:
        return None
    return replace(draft, document=document, profile={**draft.profile, "inline_system": FOLDED})


REPAIRS = (
    Rule(
        name="inline_system",
        label="Fold system messages into the user's",
        formats=ANTHROPIC,
        says=wording(
            r"role: input should be user or assistant",
            r"role: input should be user, assistant",
            r"unexpected role system",
            r"\brole:? system is not (?:supported|allowed|permitted)",
            r"(?:invalid|unsupported|unknown) (?:value for )?role:? system",
            r"\brole must be (?:one of )?\[?user(?:,| or) assistant",
        ),
        mend=_fold,
        why="Claude Code folds them itself when it reads this wording",
        learns=frozenset({"inline_system"}),
    ),
)
