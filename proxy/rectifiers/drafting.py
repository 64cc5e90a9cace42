"""From a call to the draft that repairs work on, and back."""

from __future__ import annotations

from dataclasses import replace

from providers.routing import Target
from proxy.call import Call
from proxy.rectifiers.base import Draft, Scale, unable_to_scale


def draft_of(call: Call, scale: Scale = unable_to_scale) -> Draft:
    """What the client sent, decoded. Every attempt starts from it."""
    return Draft(call.document(), call.headers, scale=scale)


def redrafted(call: Call, target: Target, original: Draft, draft: Draft) -> tuple[Call, Target]:
    """The call and the target that say what `draft` says; `original` is the call's own draft.

    Only what differs is made anew. The model stays the client's: the target
    still maps it, once.
    """
    if draft.document is not original.document:
        call = call.with_document(draft.document)
    if draft.headers is not original.headers:
        call = call._replace(headers=draft.headers)
    if draft.profile:
        profile = {**target.provider.profile, **draft.profile}
        target = replace(target, provider=replace(target.provider, profile=profile))
    return call, target
