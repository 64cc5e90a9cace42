"""What a repair is: it mends one kind of refusal and changes nothing else.

A repair is pure: it reads a `Draft` and returns a new one, sharing what it did
not touch. Most are one row, a `Rule`: the wording that it answers to and the
function that mends the draft.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from providers.routing import Target, WireFormat
from proxy.rectifiers.wording import heard
from proxy.wire import ErrorReply, HeaderPairs

Document = Mapping[str, Any]
"""An Anthropic request body, decoded. Never changed in place."""

ANTHROPIC = frozenset({WireFormat.ANTHROPIC})
OPENAI = frozenset({WireFormat.OPENAI})
BOTH = ANTHROPIC | OPENAI

INVALID = frozenset({400})
VALIDATION = INVALID | {422}
"""422 is how servers built on FastAPI (Mistral, some relays) refuse a field."""
MEDIA = frozenset({400, 413, 415, 422, 501})
TEMPLATE = INVALID | {500}
"""A chat template that fails while rendering is a 500 at llama.cpp and vLLM."""


@dataclass(frozen=True, slots=True)
class ScaledImage:
    """An image made smaller."""

    media_type: str
    data: bytes = field(repr=False)


Scale = Callable[[bytes, int | None, int | None], ScaledImage | None]
"""Scales an image down to a longest side in pixels and a weight in bytes, None for no such limit.
None if it cannot."""


def unable_to_scale(data: bytes, longest_side: int | None, most_bytes: int | None) -> None:
    """Stands for having no image library at hand."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What a repair may change.

    `document` is the client's request as Anthropic's API reads it, with the
    model that the client asked for. `headers` are the client's. `profile` holds
    overrides, key by key, of the provider's profile: repairs for OpenAI-format
    providers turn its switches, and the request is converted once more.
    `scale` is no part of it, but a tool that is handed in: repairs themselves decode no images.
    """

    document: Document = field(repr=False)
    headers: HeaderPairs = field(default=(), repr=False)
    profile: Mapping[str, Any] = field(default_factory=dict)
    scale: Scale = field(default=unable_to_scale, repr=False, compare=False)


class Repair(Protocol):
    """One entry of `REPAIRS`."""

    @property
    def name(self) -> str:
        """A stable identifier, used in settings and in the log."""
        ...

    @property
    def label(self) -> str:
        """One line for people."""
        ...

    @property
    def formats(self) -> frozenset[WireFormat]: ...

    @property
    def on_primary(self) -> bool:
        """May run at a client-credential provider unless its profile says otherwise.

        Off where Claude Code recovers by itself, and where mending would hide
        from a client that its own request is wrong.
        """
        ...

    @property
    def learns(self) -> frozenset[str]:
        """The profile keys that this repair turns and that are worth remembering if it helps."""
        ...

    @property
    def runs(self) -> int:
        """How often it may run in one attempt: more than once only where each run mends another
        thing."""
        ...

    @property
    def gives_up(self) -> bool:
        """Nothing can be mended: `apply` only states a fact, and the plan ends."""
        ...

    def matches(self, error: ErrorReply, target: Target) -> bool:
        """Whether the refusal is of this kind, by its status and wording."""
        ...

    def apply(self, draft: Draft, error: ErrorReply, target: Target) -> Draft | None:
        """The mended draft, None when there is nothing to mend."""
        ...


Mend = Callable[[Draft, str, Target], "Draft | None"]
"""Mends a draft, given the wording of the refusal (as `heard` returns it)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A repair as a table row: `says` is the wording it answers to, `unless` what it never does.

    `why` gives the reason for `on_primary`. `on_overflow`: may also answer to a
    full context, because less output may be enough.
    """

    name: str
    label: str
    formats: frozenset[WireFormat]
    says: re.Pattern[str]
    mend: Mend
    unless: re.Pattern[str] | None = None
    statuses: frozenset[int] = INVALID
    on_primary: bool = False
    why: str = ""
    learns: frozenset[str] = frozenset()
    runs: int = 1
    gives_up: bool = False
    on_overflow: bool = False

    def matches(self, error: ErrorReply, target: Target) -> bool:
        if error.rate_limited or target.provider.format not in self.formats:
            return False
        if error.context_overflow and not self.on_overflow:
            return False
        if error.meant_status not in self.statuses:
            return False
        said = heard(error)
        return bool(self.says.search(said)) and not (self.unless and self.unless.search(said))

    def apply(self, draft: Draft, error: ErrorReply, target: Target) -> Draft | None:
        mended = self.mend(draft, heard(error), target)
        return None if mended is draft else mended


def wording(*patterns: str) -> re.Pattern[str]:
    """One case-tolerant pattern out of several. Refusals are matched without their quotes."""
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)


def with_document(draft: Draft, document: Document) -> Draft | None:
    """The draft with another document, None if it is the same one."""
    return None if document is draft.document else replace(draft, document=document)


def on_document(change: Callable[[Document], Document]) -> Mend:
    """A mend that needs the document alone."""

    def mend(draft: Draft, said: str, target: Target) -> Draft | None:
        return with_document(draft, change(draft.document))

    return mend


def switch(draft: Draft, target: Target, key: str, default: Any = None) -> Any:
    """A switch of the provider's profile, with the draft's overrides laid over it."""
    if key in draft.profile:
        return draft.profile[key]
    return target.provider.profile.get(key, default)


def override(draft: Draft, target: Target, values: Mapping[str, Any]) -> Draft | None:
    """The draft with these switches turned, None if all of them stand like that already."""
    missing = object()
    if all(switch(draft, target, key, missing) == value for key, value in values.items()):
        return None
    return replace(draft, profile={**draft.profile, **values})


def on_profile(**values: Any) -> Mend:
    """A mend that turns switches of the profile."""

    def mend(draft: Draft, said: str, target: Target) -> Draft | None:
        return override(draft, target, values)

    return mend


def added(
    draft: Draft, target: Target, key: str, items: Mapping[str, None]
) -> dict[str, list[str]]:
    """A switch that is a list, with more items: `{key: [...]}`, as `override` takes it."""
    listed = switch(draft, target, key) or ()
    return {key: list(dict.fromkeys([*listed, *items]))}
