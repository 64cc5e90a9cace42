"""What is known of an Anthropic-format provider, applied before the first attempt.

Repairs of Anthropic-format requests edit the body; what they teach is kept in
the provider's profile, like the switches that an operator sets. OpenAI-format
providers need none of this: the conversion reads their profile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from providers.routing import Target, WireFormat
from proxy.rectifiers.base import Draft, switch
from proxy.rectifiers.betas import strip_betas
from proxy.rectifiers.document import Document
from proxy.rectifiers.fields import delete_field
from proxy.rectifiers.inline_system import FOLDED, fold_inline_system
from proxy.rectifiers.media import without_images
from proxy.rectifiers.parameters import hash_user_id, limit_output
from proxy.rectifiers.thinking import without_thinking_setting
from proxy.rectifiers.thinking_settings import THINKING_FORM, whole, with_thinking_form


def with_known_facts(draft: Draft, target: Target) -> Draft:
    """The draft as this provider is known to take it; the very same draft if nothing applies.

    A client-credential provider gets what the client sent, whatever is known.
    """
    provider = target.provider
    if provider.uses_client_credentials or provider.format is not WireFormat.ANTHROPIC:
        return draft
    document = draft.document
    for key, change in _SWITCHES:
        value = switch(draft, target, key)
        if value is not None:
            document = change(document, value)
    if document is not draft.document:
        draft = replace(draft, document=document)
    betas = switch(draft, target, "strip_betas")
    return strip_betas(draft, betas) if isinstance(betas, list | tuple) and betas else draft


def _strip_fields(document: Document, paths: Any) -> Document:
    for path in paths if isinstance(paths, list | tuple) else ():
        if path == "thinking":
            document = without_thinking_setting(document)
        else:
            document = delete_field(document, str(path))
    return document


def _limit(document: Document, most: Any) -> Document:
    known = whole(most)
    return limit_output(document, known) if known is not None else document


_SWITCHES: tuple[tuple[str, Callable[[Document, Any], Document]], ...] = (
    ("strip_fields", _strip_fields),
    ("inline_system", lambda d, value: fold_inline_system(d) if value == FOLDED else d),
    ("images", lambda d, value: without_images(d) if value is False else d),
    ("user_field", lambda d, value: hash_user_id(d) if value == "hash" else d),
    (THINKING_FORM, with_thinking_form),
    ("max_output_tokens", _limit),
)
SWITCHES = frozenset({"strip_betas", *(key for key, _ in _SWITCHES)})
"""The keys of a profile without which nothing applies."""
