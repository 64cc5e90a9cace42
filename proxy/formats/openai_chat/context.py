"""What the way back of one call has to know. It holds nothing of the request's body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.formats.openai_chat.errors import ErrorContext
from proxy.formats.openai_chat.profile import Profile


@dataclass(frozen=True, slots=True)
class ReplyContext:
    """`model` is what the client calls it; `stream`: it asked for a stream.

    `thinking`: it wants to see thinking blocks, with `thinking_omitted` only
    their signatures. `tool_names` maps our names to the client's, `tool_ids` are
    those of the history, `input_estimate` is in tokens.
    """

    model: str
    provider: str
    profile: Profile
    errors: ErrorContext = field(repr=False)
    stream: bool = False
    thinking: bool = False
    thinking_omitted: bool = False
    stop_sequences: tuple[str, ...] = ()
    tool_names: Mapping[str, str] = field(default_factory=dict)
    tool_ids: frozenset[str] = field(default=frozenset(), repr=False)
    input_estimate: int = 1

    def client_tool_name(self, name: object) -> str:
        wire = name if isinstance(name, str) and name.strip() else "unknown_tool"
        return self.tool_names.get(wire, wire)
