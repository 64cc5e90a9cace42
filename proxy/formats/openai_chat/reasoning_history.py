"""What a provider gets to see of earlier thinking."""

from __future__ import annotations

from typing import Any

from proxy.formats import envelope
from proxy.formats.openai_chat.content import Block
from proxy.formats.openai_chat.ledger import Ledger
from proxy.formats.openai_chat.profile import Profile

REASONING_UNKNOWN = "(reasoning not recorded)"
THOUGHT_SIGNATURE_SENTINEL = "skip_thought_signature_validator"
"""What Gemini accepts for a call that another model made (Gemini API docs, thought signatures)."""


class ReasoningHistory:
    """Puts thinking blocks into assistant messages, as the profile says."""

    def __init__(
        self, profile: Profile, provider: str, ledger: Ledger, *, reasoning_off: bool
    ) -> None:
        filler = profile.reasoning_filler
        self._field = profile.reasoning_history
        self._fill = not reasoning_off if filler is None else filler
        self._accepts_any = profile.reasoning_accept == "any"
        self._provider = provider
        self._ledger = ledger

    def add(self, message: dict[str, Any], thinking: list[Block]) -> None:
        """Adds to a message what it was thought up with."""
        if self._field == "none":
            if thinking:
                self._ledger.drop("content.thinking", len(thinking))
            return
        texts, details = self._read(thinking)
        text = "\n\n".join(texts)
        if self._field == "reasoning_details":
            if details:
                message["reasoning_details"] = details
            elif text:
                message["reasoning"] = text
        elif text:
            message[self._field] = text
        elif self._field == "reasoning_content" and self._fill:
            message["reasoning_content"] = REASONING_UNKNOWN

    def sign(self, calls: list[dict[str, Any]], ids: list[str], thinking: list[Block]) -> None:
        """Gemini's own signatures back to it; the first call of a turn must have one.

        `calls` are those of a message, `ids` what the client knows them by.
        """
        known: dict[str, str] = {}
        for block in thinking:
            provenance = envelope.read(block.get("signature"))
            if provenance is not None and provenance.provider == self._provider:
                known |= provenance.thought_signatures
        for number, (client_id, call) in enumerate(zip(ids, calls, strict=True)):
            signature = known.get(client_id) or ("" if number else THOUGHT_SIGNATURE_SENTINEL)
            if signature:
                call["extra_content"] = {"google": {"thought_signature": signature}}

    def _read(self, thinking: list[Block]) -> tuple[list[str], list[Any]]:
        """Texts and reasoning details that may go to this provider."""
        texts: list[str] = []
        details: list[Any] = []
        for block in thinking:
            provenance = envelope.read(block.get("signature"))
            if provenance is None and not self._accepts_any:
                self._ledger.drop("content.thinking")
                continue
            text = block.get("thinking")
            if provenance is not None and provenance.text is not None:
                text = provenance.text
            if isinstance(text, str) and text:
                texts.append(text)
            if provenance is not None and provenance.provider == self._provider:
                details += provenance.details
        return texts, details
