"""The content blocks of a stream, in order, of which one at a time is open on the wire.

Chat Completions may interleave text, reasoning and several tool calls; an
Anthropic stream tells one block after the other. So blocks stand in a queue:
the first is open and passed on as it grows, those behind it wait and are told
as soon as it can be closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from proxy.formats.openai_chat.blocks import Block, TextBlock, ThinkingBlock, ToolBlock
from proxy.formats.openai_chat.context import ReplyContext
from proxy.formats.openai_chat.identifiers import ClientIds


class BlockQueue:
    """The blocks of one reply. `pump` after every chunk, `finish` at the end."""

    def __init__(self, context: ReplyContext, emit: Callable[[bytes], None]) -> None:
        self._context = context
        self._emit = emit
        self._queue: deque[Block] = deque()
        self._next_index = 0
        self._space = ""  # white space that becomes part of a text if one follows
        self.ids = ClientIds(context.tool_ids)
        self.used_tool = False

    @property
    def begun(self) -> bool:
        return self._next_index > 0

    @property
    def tail(self) -> Block | None:
        return self._queue[-1] if self._queue else None

    def text(self, text: str) -> None:
        tail = self.tail
        if isinstance(tail, TextBlock):
            tail.append(text)
        elif text := self._after_space(text):
            self._add(TextBlock()).append(text)

    def thinking(self, text: str, source: str) -> ThinkingBlock | None:
        """The block that took the text, None while it is only white space."""
        tail = self.tail
        if not isinstance(tail, ThinkingBlock):
            text = self._after_space(text)
            if not text:
                return None
            tail = ThinkingBlock(self._context, source)
            self._add(tail)
        tail.append(text)
        return tail

    def tool(self) -> ToolBlock:
        """A new tool call at the end."""
        block = ToolBlock(self._context, self.ids)
        self._add(block)
        return block

    def open_thinking(self) -> ThinkingBlock | None:
        """The last thinking block, if its signature can still be added to."""
        blocks = (block for block in reversed(self._queue) if isinstance(block, ThinkingBlock))
        return next(blocks, None)

    def pump(self) -> None:
        """Tells as much as can be told now."""
        queue = self._queue
        while queue:
            head = queue[0]
            others_behind = len(queue) > 1
            if not head.is_open:
                if not head.openable(others_behind=others_behind, final=False):
                    return
                self._open(head)
            if delta := head.flush():
                self._emit(delta)
            if not others_behind or not head.closable:
                return
            self._close(head, truncated=False)

    def finish(self, *, truncated: bool) -> None:
        """Tells the rest and closes all blocks. `truncated`: the reply was cut for its length."""
        for block in list(self._queue):
            if isinstance(block, ToolBlock) and block.is_nothing and not block.is_open:
                self._queue.popleft()
                continue
            if not block.is_open:
                self._open(block)
            if delta := block.flush():
                self._emit(delta)
            self._close(block, truncated=truncated)

    def _add(self, block: Block) -> Block:
        self._space = ""
        self._queue.append(block)
        return block

    def _after_space(self, text: str) -> str:
        """`text` with the white space held before it; "" and held if it is white space itself."""
        text = self._space + text
        if not text or text.isspace():
            self._space = text
            return ""
        return text

    def _open(self, block: Block) -> None:
        self._emit(block.open(self._next_index))
        self._next_index += 1
        self.used_tool = self.used_tool or isinstance(block, ToolBlock)

    def _close(self, block: Block, *, truncated: bool) -> None:
        self._queue.popleft()
        self._emit(block.close(truncated=truncated))
