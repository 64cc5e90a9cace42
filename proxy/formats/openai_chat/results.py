"""Results of tool calls, which Chat Completions takes as text alone."""

from __future__ import annotations

from typing import Any

from proxy.formats.openai_chat.content import Block, blocks_of, text_of
from proxy.formats.openai_chat.encoding import dump_text
from proxy.formats.openai_chat.ledger import Ledger
from proxy.formats.openai_chat.media import Media, Part, search_result_text, text_part
from proxy.formats.openai_chat.profile import Profile
from proxy.formats.openai_chat.references import referenced_in


def keeps_cache_control(profile: Profile) -> bool:
    """Whether `cache_control` goes along, which only parts of content can carry."""
    return profile.cache_control == "keep" and profile.content_parts


class Results:
    """What a tool message says, and what has to be shown beside it.

    The tools that a tool search has found go to `loaded`.
    """

    def __init__(self, profile: Profile, ledger: Ledger, media: Media, loaded: list[str]) -> None:
        self._profile = profile
        self._loaded = loaded
        self._ledger = ledger
        self._media = media
        self._inline = profile.tool_images == "inline"
        self._keep_cache_control = keeps_cache_control(profile)

    def answer(self, result: Block, tool_id: str, shown: list[Part]) -> str | list[Part]:
        """The content of the tool message; adds to `shown` what the next user message shows."""
        text, media = result.get("content"), None
        if not isinstance(text, str):
            texts, media = self._content(text, tool_id)
            text = "\n".join(texts)
        if result.get("is_error") is True:
            text = _as_error(text)
        text = text or self._profile.empty_content
        if media:
            if self._inline:
                return [text_part(text), *media] if text else media
            shown += media
        if "cache_control" in result:
            return self._cached(text, result["cache_control"])
        return text

    def stray(self, block: Block) -> list[Part]:
        """A result without a call: told to the model as what it is."""
        self._ledger.drop("tool_result.without_call")
        self._ledger.drop_cache_control(block)
        texts, media = self._content(block.get("content"), "")
        heading = f"[Result of an earlier tool call {block.get('tool_use_id', '')}]"
        return [text_part("\n".join([heading, *texts])), *media]

    def _cached(self, text: str, cache_control: Any) -> str | list[Part]:
        if self._keep_cache_control and text:
            return [{**text_part(text), "cache_control": cache_control}]
        self._ledger.drop("cache_control")
        return text

    def _content(self, content: Any, tool_id: str) -> tuple[list[str], list[Part]]:
        """Texts and media of a result; media are labelled where they stand apart from the call."""
        texts: list[str] = []
        media: list[Part] = []
        for block in blocks_of(content):
            if "cache_control" in block:
                self._ledger.drop("cache_control")
            kind = block.get("type")
            if kind == "text":
                texts.append(text_of(block))
            elif kind in ("image", "document"):
                for part in self._media.parts(block):
                    self._place(part, kind, tool_id, texts, media)
            else:
                self._loaded += referenced_in(block)
                texts.append(_result_text(block))
        return texts, media

    def _place(
        self, part: Part, kind: str, tool_id: str, texts: list[str], media: list[Part]
    ) -> None:
        if part["type"] == "text":
            texts.append(part["text"])
        elif self._inline or not tool_id:
            media.append(part)
        else:
            texts.append(f"[{kind}: shown in the next user message]")
            media += [text_part(f"[{kind} returned by tool call {tool_id}]"), part]


def _result_text(block: Block) -> str:
    match block.get("type"):
        case "search_result":
            return search_result_text(block)
        case "tool_reference":
            return f"Tool loaded: {block.get('tool_name', '')}"
    return dump_text(_without_cache_control(block))


def _without_cache_control(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_cache_control(item)
            for key, item in value.items()
            if key != "cache_control"
        }
    if isinstance(value, list):
        return [_without_cache_control(item) for item in value]
    return value


def _as_error(text: str) -> str:
    start = text.lstrip()[:16].lower()
    if not start:
        return "Error"
    return text if start.startswith(("error", "<tool_use_error>")) else f"Error: {text}"
