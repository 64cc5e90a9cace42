"""What an assistant said in one turn: its text, and the thinking before it."""

from __future__ import annotations

from proxy.formats.openai_chat.content import Block
from proxy.formats.openai_chat.ledger import Ledger
from proxy.formats.openai_chat.references import referenced_tools
from proxy.formats.openai_chat.server_tools import flatten, is_server_tool

_PARAGRAPH = "\n\n"


class AssistantText:
    """Collects the blocks of a turn that are no calls. Tools that a search found go to `loaded`.

    Texts follow each other directly: citations split one sentence into several.
    """

    def __init__(self, ledger: Ledger, loaded: list[str]) -> None:
        self._ledger = ledger
        self._loaded = loaded
        self._texts: list[str] = []
        self._thinking: list[Block] = []
        self.say = self._texts.append

    def add(self, kind: object, block: Block) -> None:
        """Adds any block but a text."""
        if kind == "thinking":
            self._thinking.append(block)
        elif is_server_tool(kind):
            self._loaded += referenced_tools(block.get("content"))
            self._paragraph(flatten(block))
        elif kind == "compaction":
            self._paragraph(block.get("content"))
        else:
            self._ledger.drop(f"content.{kind}")

    def take(self) -> tuple[str, list[Block]]:
        """Text and thinking of the turn, which is then over."""
        texts, thinking = self._texts, self._thinking
        if thinking:
            self._thinking = []
        if not texts:
            return "", thinking
        if texts[-1] == _PARAGRAPH:
            texts.pop()
        text = "".join(texts)
        texts.clear()
        return "" if text.isspace() else text, thinking

    def _paragraph(self, told: object) -> None:
        if not isinstance(told, str) or not told:
            return
        if self._texts and self._texts[-1] != _PARAGRAPH:
            self._texts.append(_PARAGRAPH)
        self._texts += [told, _PARAGRAPH]
