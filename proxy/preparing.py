"""What one target gets to see of a call, before its first attempt.

Mostly the call itself. Thinking that this provider did not sign is left out,
because it would be refused; providers with a key of ours also do not get the
changing part of the billing header, and what they are known to refuse.
"""

from __future__ import annotations

import logging

from providers.knowledge import Knowledge
from providers.routing import Target, WireFormat
from proxy.call import Call
from proxy.formats.billing import may_have_header, strip_cch_in_body
from proxy.reading import is_minted
from proxy.rectifiers import Draft
from proxy.rectifiers.known_facts import SWITCHES, with_known_facts
from proxy.rectifiers.provenance import short_hash, strip_foreign

_KEEP = "keep"

logger = logging.getLogger("ccf.preparing")


def prepared(call: Call, target: Target, knowledge: Knowledge) -> Call:
    """`call` for this target; the very same object if nothing applies.

    Other wire formats are converted from the call as it is.
    """
    try:
        return _prepared(call, target, knowledge)
    except Exception:
        # Without a proxy it would have gone out as it is.
        fields = {"request_id": call.request_id, "provider": target.name}
        logger.exception("prepare.crash", extra={"fields": fields})
        return call


def _prepared(call: Call, target: Target, knowledge: Knowledge) -> Call:
    provider = target.provider
    if provider.format is not WireFormat.ANTHROPIC or not call.body:
        return call
    may_hold_foreign = call.contents is not None or knowledge.has_foreign(provider.id)
    if may_hold_foreign and not provider.profile.get("keep_thinking"):
        call = _without_foreign_thinking(call, provider.id, knowledge)
    if provider.uses_client_credentials:
        return call
    if provider.profile.get("billing_block") != _KEEP and may_have_header(call.body):
        call = call.with_body(strip_cch_in_body(call.body))
    return call if SWITCHES.isdisjoint(provider.profile) else _as_known(call, target)


def _without_foreign_thinking(call: Call, provider_id: int, knowledge: Knowledge) -> Call:
    """The body is decoded only if it holds thinking that this provider cannot have signed."""
    signatures = call.seen.signatures()
    if not any(map(is_minted, signatures)) and not (
        knowledge.has_foreign(provider_id)
        and any(knowledge.is_foreign(short_hash(each), provider_id) for each in signatures)
    ):
        return call
    stripped = strip_foreign(
        call.document(), lambda digest: knowledge.is_foreign(digest, provider_id)
    )
    return call if stripped is None else call.with_document(stripped)


def _as_known(call: Call, target: Target) -> Call:
    draft = Draft(call.document(), call.headers)
    known = with_known_facts(draft, target)
    if known is draft:
        return call
    if known.document is not draft.document:
        call = call.with_document(known.document)
    return call._replace(headers=known.headers)
