"""Repairs: a request that a provider refuses for a reason that can be mended is mended and asked
once more.

To add one, write a `Rule` (or anything that satisfies `Repair`) in the file of
its family and list it there; a new family is one line below. The order counts:
the first repair that answers to a refusal and changes something runs.
"""

from __future__ import annotations

from proxy.rectifiers import (
    betas,
    content,
    inline_system,
    media,
    openai_messages,
    openai_parameters,
    openai_tools,
    parameters,
    thinking,
    thinking_settings,
    tools,
)
from proxy.rectifiers.base import Draft, Repair, Rule
from proxy.rectifiers.changes import Change
from proxy.rectifiers.plan import RepairPlan, RepairRecord

REPAIRS: tuple[Repair, ...] = (
    *thinking.REPAIRS,
    *thinking_settings.REPAIRS,
    *tools.REPAIRS,
    *content.REPAIRS,
    *media.REPAIRS,
    *inline_system.REPAIRS,
    *betas.REPAIRS,
    *openai_tools.REPAIRS,
    *openai_messages.REPAIRS,
    *openai_parameters.REPAIRS,
    *parameters.REPAIRS,  # last: unknown fields of any kind
)


def plan() -> RepairPlan:
    """A plan for one attempt, with every repair there is."""
    return RepairPlan(REPAIRS)


__all__ = ["REPAIRS", "Change", "Draft", "Repair", "RepairPlan", "RepairRecord", "Rule", "plan"]
