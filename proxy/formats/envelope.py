"""The signature of thinking blocks that this proxy makes for other providers' reasoning.

Anthropic's clients keep a thinking block's `signature` and send it back with the
block. Ours says where the block came from and carries what its maker wants to
get back: `ccf1.` + base64url(zlib(JSON)), the JSON being

    {"p": provider id, "f": field the text came in, "t"?: text, "d"?: reasoning details,
     "g"?: {tool id: thought signature}}

So a conversation may move between providers without any state here: whoever
made a block gets it back, and api.anthropic.com, which would refuse a signature
that is not its own, never sees one (`strip_minted`).
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from proxy.reading import MINTED as PREFIX

MAX_SIGNATURE = 64 * 1024
_MAX_DECODED = 8 * 1024 * 1024
_CLEAR_THINKING = "clear_thinking_"
_THINKING_TYPES = ("thinking", "redacted_thinking")


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a minted signature says. `source` is the upstream's name of the field with the text."""

    provider: str
    source: str = ""
    text: str | None = None
    details: Sequence[Any] = ()
    thought_signatures: Mapping[str, str] = field(default_factory=dict)


def mint(provenance: Provenance) -> str:
    """A signature of at most 64 KB: what does not fit is left out, details first."""
    document: dict[str, Any] = {"p": provenance.provider, "f": provenance.source}
    if provenance.text is not None:
        document["t"] = provenance.text
    if provenance.thought_signatures:
        document["g"] = dict(provenance.thought_signatures)
    if provenance.details:
        document["d"] = list(provenance.details)
    for dispensable in ("d", "g", "t", None):
        signature = _encode(document)
        if len(signature) <= MAX_SIGNATURE or dispensable is None:
            break
        document.pop(dispensable, None)
    return signature


def is_minted(signature: object) -> bool:
    return isinstance(signature, str) and signature.startswith(PREFIX)


def read(signature: object) -> Provenance | None:
    """What a signature says, None if it is not one of ours or is damaged."""
    if not isinstance(signature, str) or not signature.startswith(PREFIX):
        return None
    try:
        document = orjson.loads(_decode(signature[len(PREFIX) :]))
    except (ValueError, zlib.error, binascii.Error):
        return None
    if not isinstance(document, dict):
        return None
    text, details, signatures = document.get("t"), document.get("d"), document.get("g")
    return Provenance(
        provider=str(document.get("p", "")),
        source=str(document.get("f", "")),
        text=text if isinstance(text, str) else None,
        details=details if isinstance(details, list) else (),
        thought_signatures=_strings(signatures),
    )


def strip_minted(document: Mapping[str, Any], provider: str) -> dict[str, Any] | None:
    """An Anthropic request without the thinking blocks that `provider` could not have signed.

    Those are the ones with a minted signature of another provider, or with none.
    Messages that are left empty go too. If the tool loop that is under way then
    no longer starts with thinking, which the API insists on with
    `thinking.type: enabled`, thinking is switched off for this request.
    Returns None if nothing had to change; never changes `document`.
    """
    messages = document.get("messages")
    if not isinstance(messages, list):
        return None
    kept = [_strip_message(message, provider) for message in messages]
    if all(new is old for new, old in zip(kept, messages, strict=True)):
        return None
    changed = {**document, "messages": [message for message in kept if message is not None]}
    return allow_unthinking_turn(changed) or changed


def allow_unthinking_turn(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """`document` without `thinking`, if that is "enabled" and the open tool loop lacks its start.

    The `clear_thinking` edit, which presupposes thinking, goes with it. None if
    all is well as it is.
    """
    thinking = document.get("thinking")
    if not isinstance(thinking, dict) or thinking.get("type") != "enabled":
        return None
    if _loop_starts_with_thinking(document.get("messages")):
        return None
    changed = {key: value for key, value in document.items() if key != "thinking"}
    management = changed.get("context_management")
    if isinstance(management, dict) and isinstance(management.get("edits"), list):
        edits = [edit for edit in management["edits"] if not _clears_thinking(edit)]
        if len(edits) != len(management["edits"]):
            changed["context_management"] = {**management, "edits": edits}
            if not edits:
                del changed["context_management"]
    return changed


def _encode(document: Mapping[str, Any]) -> str:
    try:
        raw = orjson.dumps(document)
    except orjson.JSONEncodeError:  # a lone surrogate, or an integer beyond 64 bits
        return PREFIX
    return PREFIX + base64.urlsafe_b64encode(zlib.compress(raw, 6)).rstrip(b"=").decode()


def _decode(encoded: str) -> bytes:
    padded = encoded + "=" * (-len(encoded) % 4)
    compressed = base64.b64decode(padded.encode(), altchars=b"-_", validate=True)
    inflate = zlib.decompressobj()
    raw = inflate.decompress(compressed, _MAX_DECODED)
    if not inflate.eof:
        raise ValueError("truncated, or too large to be ours")
    return raw


def _strings(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {key: text for key, text in value.items() if isinstance(text, str)}


def _strip_message(message: Any, provider: str) -> Any:
    """`message` itself if it may stay as it is, None if nothing is left of it."""
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list) or message.get("role") != "assistant":
        return message
    kept = [block for block in content if not _is_foreign(block, provider)]
    if len(kept) == len(content):
        return message
    return {**message, "content": kept} if kept else None


def _is_foreign(block: Any, provider: str) -> bool:
    if not isinstance(block, dict) or block.get("type") != "thinking":
        return False
    signature = block.get("signature")
    if not signature:
        return True
    if not is_minted(signature):
        return False
    provenance = read(signature)
    return provenance is None or provenance.provider != provider


def _loop_starts_with_thinking(messages: Any) -> bool:
    """Whether the last assistant message of a tool loop under way starts with thinking.

    True as well when no loop is under way: then nothing is asked of history.
    """
    if not isinstance(messages, list):
        return True
    for message in reversed(messages):
        content = message.get("content") if isinstance(message, dict) else None
        if _role(message) == "assistant":
            first = content[0] if isinstance(content, list) and content else None
            return isinstance(first, dict) and first.get("type") in _THINKING_TYPES
        if _role(message) == "user" and not _has_tool_result(content):
            return True
    return True


def _role(message: Any) -> str:
    return str(message.get("role", "")) if isinstance(message, dict) else ""


def _has_tool_result(content: Any) -> bool:
    return isinstance(content, list) and any(
        isinstance(block, dict) and block.get("type") == "tool_result" for block in content
    )


def _clears_thinking(edit: Any) -> bool:
    return isinstance(edit, dict) and str(edit.get("type", "")).startswith(_CLEAR_THINKING)
