"""Which call a delta of a stream belongs to: servers disagree on how to say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.formats.openai_chat.block_queue import BlockQueue
from proxy.formats.openai_chat.blocks import ToolBlock
from proxy.formats.openai_chat.encoding import dump_text
from proxy.formats.openai_chat.reading import thought_signature


class ToolCalls:
    """The calls of one reply, as they grow."""

    def __init__(self, blocks: BlockQueue) -> None:
        self._blocks = blocks
        self._by_index: dict[int, ToolBlock] = {}
        self._by_id: dict[str, ToolBlock] = {}
        self._last: ToolBlock | None = None

    def add(self, delta: Mapping[str, Any]) -> str:
        """Takes one delta over; returns its arguments."""
        function = delta.get("function")
        function = function if isinstance(function, dict) else {}
        raw_id, name = _nonempty(delta.get("id")), _nonempty(function.get("name"))
        arguments = function.get("arguments")
        if isinstance(arguments, (dict, list)):
            arguments = dump_text(arguments)
        elif not isinstance(arguments, str):
            arguments = ""
        block = self._find(delta.get("index"), raw_id, name, arguments)
        self._last = block
        if raw_id and not block.raw_id:
            block.raw_id = raw_id
        if raw_id:
            self._by_id.setdefault(raw_id, block)
        if name and not block.name:
            block.name = name
        if arguments:
            block.append(arguments)
        self._keep_signature(delta, block)
        return arguments

    def _keep_signature(self, delta: Mapping[str, Any], block: ToolBlock) -> None:
        signature = thought_signature(delta)
        thinking = self._blocks.open_thinking() if signature else None
        if thinking is not None:
            thinking.thought_signatures[block.claim_id()] = signature

    def _find(self, index: object, raw_id: str, name: str, arguments: str) -> ToolBlock:
        if isinstance(index, int) and not isinstance(index, bool):
            current = self._by_index.get(index)
            if current is None or _starts_anew(current, raw_id, name, arguments):
                current = self._by_index[index] = self._blocks.tool()
            return current
        if raw_id:
            return self._by_id.get(raw_id) or self._blocks.tool()
        if name or self._last is None:
            return self._blocks.tool()
        return self._last


def _starts_anew(current: ToolBlock, raw_id: str, name: str, arguments: str) -> bool:
    """Whether a delta with the index of `current` is another call all the same.

    Some servers send every parallel call with index 0; others make up a new id
    for every delta of one call.
    """
    if raw_id and current.raw_id and raw_id != current.raw_id:
        return bool(name) and (current.complete or (current.name != "" and name != current.name))
    return not raw_id and bool(name and arguments) and current.name != "" and current.complete


def _nonempty(value: object) -> str:
    return value if isinstance(value, str) else ""
