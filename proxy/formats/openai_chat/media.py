"""Images, documents and other blocks that are not plain text, as content parts."""

from __future__ import annotations

from typing import Any

from proxy.formats.openai_chat.content import Block, blocks_of, text_of
from proxy.formats.openai_chat.ledger import Ledger
from proxy.formats.openai_chat.profile import Profile

Part = dict[str, Any]
NO_IMAGES = "[image omitted: the current model cannot view images]"
PDF = "application/pdf"
_MAGIC = (
    ("iVBOR", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
)
"""The start of an image's base64, and what it then is."""


def text_part(text: str) -> Part:
    return {"type": "text", "text": text}


class Media:
    """Turns blocks into parts, by what the profile says the model can take."""

    def __init__(self, profile: Profile, ledger: Ledger) -> None:
        self._images = profile.images and profile.content_parts
        self._files = profile.documents == "file_part" and profile.content_parts
        self._ledger = ledger

    def parts(self, block: Block) -> list[Part]:
        """The parts of an image, a document, a search result, or of something unknown."""
        match block.get("type"):
            case "image":
                return [self.image(block)]
            case "document":
                return self.document(block)
            case "search_result":
                return [text_part(search_result_text(block))]
        self._ledger.drop(f"content.{block.get('type')}")
        return [text_part(f"[unsupported content block: {block.get('type')}]")]

    def image(self, block: Block) -> Part:
        source = block.get("source")
        if not isinstance(source, dict):
            source = {}
        if not self._images:
            self._ledger.drop("image")
            return text_part(NO_IMAGES)
        url = _image_url(source)
        if url is None:
            self._ledger.drop("image")
            name = source.get("file_id", "without a source")
            return text_part(f"[image file {name} is not available to this provider]")
        self._ledger.image(url)
        return {"type": "image_url", "image_url": {"url": url}}

    def document(self, block: Block) -> list[Part]:
        source = block.get("source")
        if isinstance(source, (str, list)):
            source = {"type": "content", "content": source}
        if not isinstance(source, dict):
            source = {}
        heading = [text for key in ("title", "context") if (text := _string(block.get(key)))]
        match source.get("type"):
            case "text":
                return [text_part("\n".join([*heading, _string(source.get("data"))]))]
            case "content":
                inner = [
                    part for item in blocks_of(source.get("content")) for part in self._flat(item)
                ]
                return [text_part("\n".join(heading)), *inner] if heading else inner
            case "url":
                return [text_part(f"[document: {_string(source.get('url'))}]")]
            case "file":
                name = _string(source.get("file_id"))
                return [text_part(f"[document file {name} is not available to this provider]")]
        return [self._binary(block, source)]

    def _flat(self, block: Block) -> list[Part]:
        if block.get("type") == "text":
            return [text_part(text_of(block))]
        return self.parts(block)

    def _binary(self, block: Block, source: dict[str, Any]) -> Part:
        data, title = _string(source.get("data")), _string(block.get("title"))
        media_type = _string(source.get("media_type")) or PDF
        if self._files and media_type == PDF and data:
            url = data if data.startswith("data:") else f"data:{PDF};base64,{data}"
            self._ledger.pdf(url)
            return {
                "type": "file",
                "file": {"filename": title or "document.pdf", "file_data": url},
            }
        self._ledger.drop("document")
        size = -(-len(data) * 3 // 4 // 1024)
        name = f'"{title}" ' if title else ""
        return text_part(
            f"[document {name}({media_type}, {size} KB) omitted: not supported by this provider]"
        )


def search_result_text(block: Block) -> str:
    texts = [_string(block.get("title")), _string(block.get("source"))]
    texts += [text_of(item) for item in blocks_of(block.get("content"))]
    return "\n".join(text for text in texts if text)


def _image_url(source: dict[str, Any]) -> str | None:
    data, url = source.get("data"), source.get("url")
    if isinstance(data, str) and data:
        if data.startswith("data:"):
            return data
        media_type = _string(source.get("media_type")) or _sniff(data)
        return f"data:{media_type};base64,{data}"
    return url if isinstance(url, str) and url else None


def _sniff(data: str) -> str:
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), "image/png")


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""
