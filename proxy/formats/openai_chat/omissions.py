"""What a converted request leaves out or changes of the client's fields, counted for the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.formats.openai_chat.ledger import Ledger
from proxy.formats.openai_chat.limits import stop_sequences

_KNOWN = frozenset(
    (
        "model",
        "max_tokens",
        "system",
        "messages",
        "stream",
        "stop_sequences",
        "temperature",
        "top_p",
        "top_k",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "output_format",
        "metadata",
    )
)
_SAME_NAME = ("temperature", "top_p", "top_k", "tool_choice")
_TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")


def note_omissions(
    document: Mapping[str, Any], body: Mapping[str, Any], ledger: Ledger, *, thinks: bool
) -> None:
    """`thinks`: the body says how hard to think, if the client did."""
    for name in _omitted(document, body):
        ledger.drop(name)
    if not thinks:
        for name in _unheard_thinking(document):
            ledger.drop(name)
    surplus = len(stop_sequences(document)) - len(body.get("stop", ()))
    if surplus:
        ledger.drop("stop_sequences", surplus)


def _omitted(document: Mapping[str, Any], body: Mapping[str, Any]) -> Iterator[str]:
    for name in document:
        if name not in _KNOWN:
            yield name
    for name in _SAME_NAME:
        if name in document and name not in body:
            yield name
    config = document.get("output_config")
    for name in config if isinstance(config, dict) else ():
        if name not in ("effort", "format"):
            yield f"output_config.{name}"
    if document.get("metadata") and "user" not in body:
        yield "metadata"
    limit = next((body[name] for name in _TOKEN_LIMITS if name in body), None)
    if document.get("max_tokens") not in (None, limit):
        yield "max_tokens"  # sent, but lower


def _unheard_thinking(document: Mapping[str, Any]) -> Iterator[str]:
    """The fields in which a client asked for thinking."""
    thinking, config = document.get("thinking"), document.get("output_config")
    if isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive"):
        yield "thinking"
    if isinstance(config, dict) and "effort" in config:
        yield "output_config.effort"
