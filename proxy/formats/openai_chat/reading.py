"""The parts of a reply that a whole message and a stream's chunk have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

TEXT, THINKING, REFUSAL = "text", "thinking", "refusal"
_REASONING_FIELDS = ("reasoning_content", "reasoning")
_OPEN, _CLOSE = "<think>", "</think>"

FAILED_FINISHES: Mapping[str, int] = {
    "error": 502,
    "network_error": 502,
    "abort": 502,
    "insufficient_system_resource": 529,
}
"""Finish reasons that mean the reply failed, and the HTTP status that would have said so."""

_LENGTH = ("length", "max_tokens", "max_output_tokens")
_FILTERED = ("content_filter", "sensitive")
_WINDOW = ("model_length", "model_context_window_exceeded", "context_length_exceeded")


def reasoning_of(message: Mapping[str, Any]) -> tuple[str, str, list[Any]]:
    """The reasoning text, the field it came in, and the reasoning details.

    Where several fields have text they are copies of each other: the first counts.
    """
    details = message.get("reasoning_details")
    details = details if isinstance(details, list) else []
    for name in _REASONING_FIELDS:
        text = message.get(name)
        if isinstance(text, str) and text:
            return text, name, details
    return "".join(map(_detail_text, details)), "reasoning_details", details


def content_of(content: Any) -> Iterator[tuple[str, str]]:
    """(TEXT, THINKING or REFUSAL, text) of a message's content: a string or a list of parts."""
    if isinstance(content, str):
        yield TEXT, content
    elif isinstance(content, list):
        for part in content:
            yield from _part(part)


def stop_reason(
    finish: str | None,
    *,
    refused: bool,
    used_tool: bool,
    matched: object,
    requested: tuple[str, ...],
) -> tuple[str, str | None]:
    """Anthropic's stop reason and stop sequence. `matched` is what the server says stopped it."""
    if finish in _LENGTH:
        return "max_tokens", None
    if refused or finish in _FILTERED:
        return "refusal", None
    if finish in _WINDOW:
        return "model_context_window_exceeded", None
    if used_tool:
        return "tool_use", None
    if isinstance(matched, str) and matched in requested:
        return "stop_sequence", matched
    return "end_turn", None


def stop_details(reason: str, refusal: str) -> dict[str, Any]:
    """The `stop_details` of a refusal, nothing for any other reason."""
    if reason != "refusal":
        return {}
    details = {"type": "refusal", "category": None, "explanation": refusal or None}
    return {"stop_details": details}


def matched_stop(choice: Mapping[str, Any]) -> object:
    """The stop string that vLLM, SGLang and others name beside the finish reason."""
    for name in ("stop_reason", "matched_stop", "stopping_word"):
        if choice.get(name) is not None:
            return choice[name]
    return None


def thought_signature(tool_call: Mapping[str, Any]) -> str:
    """Gemini's signature of a call, "" if there is none."""
    extra = tool_call.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    return signature if isinstance(signature, str) else ""


class ThinkTags:
    """Separates a leading `<think>...</think>` from the text behind it, piece by piece.

    For models whose server does not parse their reasoning.
    """

    __slots__ = ("_held", "_state")

    def __init__(self) -> None:
        self._state = "start"
        self._held = ""  # may be the beginning of a tag

    @property
    def passed(self) -> bool:
        """Nothing but text can follow."""
        return self._state == "text"

    def feed(self, text: str) -> Iterator[tuple[str, str]]:
        text, self._held = self._held + text, ""
        if self._state == "start":
            text = self._start(text)
        if self._state == "thinking":
            index = text.find(_CLOSE)
            if index < 0:
                yield THINKING, self._hold_back(text)
                return
            yield THINKING, text[:index]
            self._state, text = "after", text[index + len(_CLOSE) :]
        if self._state == "after":
            text = text.lstrip()
            if text:
                self._state = "text"
        if self._state == "text" and text:
            yield TEXT, text

    def finish(self) -> Iterator[tuple[str, str]]:
        if self._held:
            yield (THINKING if self._state == "thinking" else TEXT), self._held
        self._held, self._state = "", "text"

    def _start(self, text: str) -> str:
        stripped = text.lstrip()
        if stripped.startswith(_OPEN):
            self._state = "thinking"
            return stripped[len(_OPEN) :]
        if _OPEN.startswith(stripped):
            self._held = text
            return ""
        self._state = "text"
        return text

    def _hold_back(self, text: str) -> str:
        """`text` up to what could be the start of the closing tag."""
        for length in range(min(len(_CLOSE) - 1, len(text)), 0, -1):
            if text.endswith(_CLOSE[:length]):
                self._held = text[-length:]
                return text[:-length]
        return text


def _detail_text(detail: Any) -> str:
    if not isinstance(detail, dict):
        return ""
    texts = (detail.get(key) for key in ("text", "summary"))
    return next((text for text in texts if isinstance(text, str) and text), "")


def _part(part: Any) -> Iterator[tuple[str, str]]:
    if isinstance(part, str):
        yield TEXT, part
    elif isinstance(part, dict):
        kind = part.get("type")
        if kind == "refusal" and isinstance(part.get("refusal"), str):
            yield REFUSAL, part["refusal"]
        elif kind == "thinking":  # Mistral: a list of text parts, or a text
            yield from ((THINKING, text) for _, text in content_of(part.get("thinking")))
        elif isinstance(part.get("text"), str):
            yield TEXT, part["text"]
