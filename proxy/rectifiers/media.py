"""Images: a provider that cannot see, images that are too large for it."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from providers.routing import Target, WireFormat
from proxy.rectifiers.base import BOTH, MEDIA, Draft, Rule, override, with_document, wording
from proxy.rectifiers.document import Block, Document, blocks_of, kind, map_blocks, messages_of
from proxy.rectifiers.image_size import image_size

BLIND = "[image omitted: the current model cannot view images]"
TOO_LARGE = "[image omitted: too large for this provider]"
MEDIA_KINDS = frozenset({"image", "document"})
HEADER_BYTES = 65_536


def replace_images(document: Document, unwanted: Callable[[Block], bool], text: str) -> Document:
    """The document with the unwanted images, also those in tool results, replaced by a text."""

    def change(block: Block) -> Block:
        if kind(block) not in MEDIA_KINDS or not unwanted(block):
            return block
        placeholder: Block = {"type": "text", "text": text}
        mark = block.get("cache_control")
        return placeholder if mark is None else {**placeholder, "cache_control": mark}

    return map_blocks(document, change, nested=True)


def is_image(block: Block) -> bool:
    return kind(block) == "image"


def media_of(document: Document, kinds: frozenset[str] = MEDIA_KINDS) -> Iterator[Block]:
    """Images and documents in the order of the conversation."""
    for message in messages_of(document):
        for block in blocks_of(message):
            for inner in blocks_of(block) if kind(block) == "tool_result" else (block,):
                if kind(inner) in kinds:
                    yield inner


def without_images(document: Document) -> Document:
    """The document with every image replaced by a text that says so."""
    return replace_images(document, is_image, BLIND)


def _blind(draft: Draft, said: str, target: Target) -> Draft | None:
    if not any(media_of(draft.document, frozenset({"image"}))):
        return None
    turned = override(draft, target, {"images": False})
    if target.provider.format is WireFormat.OPENAI:
        return turned
    return replace(turned or draft, document=without_images(draft.document))


def _data(block: Block) -> str:
    source = block.get("source")
    data = source.get("data") if isinstance(source, dict) and kind(source) == "base64" else None
    return data if isinstance(data, str) else ""


def _bytes(block: Block) -> int:
    return len(_data(block)) * 3 // 4


def _longest_side(block: Block) -> int:
    try:
        head = b64decode(_data(block)[: HEADER_BYTES * 4 // 3], validate=False)
    except (Base64Error, ValueError):
        return 0
    return max(image_size(head) or (0, 0))


_PIXELS = re.compile(r"exceeds? max allowed size[^\n]*?:? (?P<most>\d+) pixels", re.IGNORECASE)
_WEIGHT = re.compile(r"image exceeds (?P<mb>\d+(?:\.\d+)?) ?MB maximum", re.IGNORECASE)
_PLACE = re.compile(
    r"messages\.(?P<message>\d+)\.content\.(?P<block>\d+)(?:\.tool_result\.content\.(?P<inner>\d+))?",
    re.IGNORECASE,
)


def _shrink(draft: Draft, said: str, target: Target) -> Draft | None:
    """Replaces what is over the limit; else the image that was named; else the older half.

    There is no image library here: an image that does not fit cannot be scaled.
    """
    images = list(media_of(draft.document, frozenset({"image"})))
    unwanted: list[Block] = []
    if found := _PIXELS.search(said):
        unwanted = [image for image in images if _longest_side(image) > int(found["most"])]
    elif found := _WEIGHT.search(said):
        most = float(found["mb"]) * 1024 * 1024
        unwanted = [image for image in images if len(_data(image)) > most]
    if not unwanted and (named := _named(draft.document, said)) is not None:
        unwanted = [named]
    return _without(draft, unwanted or _older_half(images))


def _named(document: Document, said: str) -> Block | None:
    found = _PLACE.search(said)
    if found is None:
        return None
    try:
        block: Any = document["messages"][int(found["message"])]["content"][int(found["block"])]
        if found["inner"]:
            block = block["content"][int(found["inner"])]
    except (KeyError, IndexError, TypeError):
        return None
    return block if is_image(block) else None


def _older_half(media: list[Block]) -> list[Block]:
    """The oldest images and documents, until half of their weight is gone."""
    weight = sum(map(_bytes, media))
    unwanted: list[Block] = []
    gone = 0
    for block in media:
        if unwanted and gone * 2 >= weight:
            break
        unwanted.append(block)
        gone += _bytes(block)
    return unwanted


def _without(draft: Draft, unwanted: list[Block]) -> Draft | None:
    ids = {id(block) for block in unwanted}
    return with_document(
        draft, replace_images(draft.document, lambda block: id(block) in ids, TOO_LARGE)
    )


def _lighten(draft: Draft, said: str, target: Target) -> Draft | None:
    heavy = [block for block in media_of(draft.document) if _data(block)]
    return _without(draft, _older_half(heavy)) if heavy else None


IMAGES_UNSUPPORTED = Rule(
    name="images_unsupported",
    label="Replace images for a model that cannot see",
    formats=BOTH,
    statuses=MEDIA,
    says=wording(
        r"does not support image(?:s\b|[ _]inputs?\b|[ _]urls?\b| content)",
        r"models? (?:only supports?|supports? only) text(?: input|\b)",
        r"cannot process media inputs",
        r"attachments are not supported",
        r"unknown variant image_url, expected text",
        r"image(?:[ _](?:inputs?|urls?))? (?:is|are) not supported",
        r"image_url is only supported by",
        r"is not a multimodal model",
        r"does not support vision",
    ),
    mend=_blind,
    why="the models of the primary can see",
    learns=frozenset({"images"}),
)
IMAGES_TOO_LARGE = Rule(
    name="images_too_large",
    label="Replace images that are too large",
    formats=BOTH,
    statuses=MEDIA,
    says=wording(
        r"image dimensions exceed max allowed size",
        r"image exceeds \d+(?:\.\d+)? ?MB maximum",
    ),
    mend=_shrink,
    why="Claude Code recovers from these itself",
)
REQUEST_TOO_LARGE = Rule(
    name="request_too_large",
    label="Replace the oldest images of a request that is too large",
    formats=BOTH,
    statuses=frozenset({413}),
    says=wording(r""),  # the status says enough
    unless=wording(r"tokens per min", r"\btpm\b"),
    mend=_lighten,
    why="Claude Code recovers from these itself",
)

REPAIRS = (IMAGES_UNSUPPORTED, IMAGES_TOO_LARGE, REQUEST_TOO_LARGE)
