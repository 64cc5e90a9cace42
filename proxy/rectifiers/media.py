"""Images: a provider that cannot see, images that are too large for it."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
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
MAX_SCALED_PIXELS = 200_000_000
"""Of one request. Scaling so many takes some seconds; further images become a text."""


def replace_images(document: Document, unwanted: Callable[[Block], bool], text: str) -> Document:
    """The document with the unwanted images, also those in tool results, replaced by a text."""
    return map_media(document, lambda block: instead(block, text) if unwanted(block) else block)


def map_media(document: Document, change: Callable[[Block], Block]) -> Document:
    """The document with its images and documents rewritten, also those in tool results."""
    return map_blocks(
        document, lambda block: change(block) if kind(block) in MEDIA_KINDS else block, nested=True
    )


def instead(block: Block, text: str) -> Block:
    """A text in place of an image."""
    placeholder: Block = {"type": "text", "text": text}
    mark = block.get("cache_control")
    return placeholder if mark is None else {**placeholder, "cache_control": mark}


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


def _size(block: Block) -> tuple[int, int]:
    """Width and height, (0, 0) if they cannot be told."""
    try:
        head = b64decode(_data(block)[: HEADER_BYTES * 4 // 3], validate=False)
    except (Base64Error, ValueError):
        return 0, 0
    return image_size(head) or (0, 0)


_PIXELS = re.compile(r"exceeds? max allowed size[^\n]*?:? (?P<most>\d+) pixels", re.IGNORECASE)
_WEIGHT = re.compile(r"image exceeds (?P<mb>\d+(?:\.\d+)?) ?MB maximum", re.IGNORECASE)
_PLACE = re.compile(
    r"messages\.(?P<message>\d+)\.content\.(?P<block>\d+)(?:\.tool_result\.content\.(?P<inner>\d+))?",
    re.IGNORECASE,
)


def _shrink(draft: Draft, said: str, target: Target) -> Draft | None:
    """Scales down what is over the limit; else the image that was named; else the older half."""
    images = list(media_of(draft.document, frozenset({"image"})))
    unwanted: list[Block] = []
    side = weight = None
    if found := _PIXELS.search(said):
        side = int(found["most"])
        unwanted = [image for image in images if max(_size(image)) > side]
    elif found := _WEIGHT.search(said):
        weight = int(float(found["mb"]) * 1024 * 1024)
        unwanted = [image for image in images if len(_data(image)) > weight]
    if not unwanted and (named := _named(draft.document, said)) is not None:
        unwanted = [named]
    unwanted = unwanted or _older_half(images)
    # The limit is one of the base64 text, which is a third longer than what it stands for.
    smaller = _scaled(draft, unwanted, side, weight and weight * 3 // 4)
    document = map_media(draft.document, lambda block: smaller.get(id(block), block))
    return with_document(draft, document)


def _scaled(
    draft: Draft, images: list[Block], side: int | None, weight: int | None
) -> dict[int, Block]:
    """What is to stand in place of each of these images, by their identity."""
    smaller: dict[int, Block] = {}
    pixels = 0
    for image in images:
        width, height = _size(image)
        pixels += width * height
        within_bounds = width * height > 0 and pixels <= MAX_SCALED_PIXELS
        scaled = draft.scale(_decoded(image), side, weight) if within_bounds else None
        if scaled is None:
            smaller[id(image)] = instead(image, TOO_LARGE)
        else:
            data = b64encode(scaled.data).decode()
            source = {**image["source"], "media_type": scaled.media_type, "data": data}
            smaller[id(image)] = {**image, "source": source}
    return smaller


def _decoded(block: Block) -> bytes:
    try:
        return b64decode(_data(block), validate=False)
    except (Base64Error, ValueError):
        return b""


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
    label="Scale down images that are too large",
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
