"""What one target gets to see of a call, before its first attempt.

Mostly the call itself. Thinking that this provider did not sign is left out,
because it would be refused; providers with a key of ours also do not get the
changing part of the billing header, and what they are known to refuse.
"""

from __future__ import annotations

import re
from dataclasses import replace

from providers.knowledge import Knowledge
from providers.routing import Target, WireFormat
from proxy.call import Call
from proxy.formats.billing import strip_cch_in_body
from proxy.formats.envelope import PREFIX, strip_minted
from proxy.rectifiers import Draft
from proxy.rectifiers.known_facts import with_known_facts
from proxy.rectifiers.provenance import short_hash, strip_foreign

_MINTED = re.compile(re.escape(PREFIX.encode()))  # faster than `in` here: bodies are long
_SIGNATURE = re.compile(rb'"signature"\s*:\s*"([^"\\]+)"')
_REDACTED = re.compile(rb'"data"\s*:\s*"([^"\\]+)"')
_KEEP = "keep"


def prepared(call: Call, target: Target, knowledge: Knowledge) -> Call:
    """`call` for this target; the very same object if nothing applies.

    Other wire formats are converted from the call as it is.
    """
    provider = target.provider
    if provider.format is not WireFormat.ANTHROPIC or not call.body:
        return call
    if not provider.profile.get("keep_thinking"):
        call = _without_foreign_thinking(call, provider.id, knowledge)
    if provider.uses_client_credentials:
        return call
    if b"cch=" in call.body and provider.profile.get("billing_block") != _KEEP:
        call = call.with_body(strip_cch_in_body(call.body))
    return _as_known(call, target) if provider.profile else call


def _without_foreign_thinking(call: Call, provider_id: int, knowledge: Knowledge) -> Call:
    """Only substring tests, unless there is thinking that this provider cannot have signed."""
    if _has_foreign_signature(call.body, provider_id, knowledge):
        stripped = strip_foreign(
            call.document(), lambda digest: knowledge.is_foreign(digest, provider_id)
        )
        if stripped is not None:
            call = call.with_document(stripped)
    elif _MINTED.search(call.body):
        minted = strip_minted(call.document(), str(provider_id))
        if minted is not None:
            call = call.with_document(minted)
    return call


def _has_foreign_signature(body: bytes, provider_id: int, knowledge: Knowledge) -> bool:
    """Whether a signature in the history is known to be another provider's."""
    if not knowledge.has_foreign(provider_id):
        return False
    patterns = [_SIGNATURE, _REDACTED] if b"redacted_thinking" in body else [_SIGNATURE]
    return any(
        knowledge.is_foreign(short_hash(found[1].decode("latin-1")), provider_id)
        for pattern in patterns
        for found in pattern.finditer(body)
    )


def _as_known(call: Call, target: Target) -> Call:
    draft = Draft(call.document(), call.headers)
    known = with_known_facts(draft, target)
    if known is draft:
        return call
    if known.document is not draft.document:
        call = call.with_document(known.document)
    return replace(call, headers=known.headers)
