"""Makes an image small enough for a provider. Slow, and bounded: other people's data is decoded.

What is refused is refused by its head, before a pixel is decoded: formats that the API does not
take, and images of so many pixels that decoding them would fill the memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from io import BytesIO

from PIL import Image, ImageOps

from proxy.rectifiers.base import ScaledImage

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MAX_ENCODED = 32 * 1024 * 1024
MAX_PIXELS = 50_000_000
"""200 MB while it is decoded; a 48 megapixel photo still passes."""

SIDES = (2000, 1568, 1024, 512)
"""Longest sides that are tried, in pixels, until an image is light enough. From 1568 on the API
scales down by itself."""

logger = logging.getLogger("ccf.repairs")


def scale(data: bytes, longest_side: int | None, most_bytes: int | None) -> ScaledImage | None:
    """The image with sides and a weight of at most so much; None if that cannot be done."""
    if len(data) > MAX_ENCODED:
        return None
    try:
        for side in _sides(longest_side, most_bytes):
            for scaled in _encodings(data, side):
                if most_bytes is None or len(scaled.data) <= most_bytes:
                    return scaled
    except Exception as error:  # decoders fail in many ways, and the next request must not suffer
        fields = {"message": f"an image could not be scaled: {type(error).__name__}"}
        logger.warning("repair.image", extra={"fields": fields})
    return None


def _sides(longest: int | None, most_bytes: int | None) -> Iterator[int]:
    if longest is not None:
        yield longest
    if most_bytes is not None:
        yield from (side for side in SIDES if longest is None or side < longest)


def _encodings(data: bytes, side: int) -> Iterator[ScaledImage]:
    """The image in its own format, then as JPEG, which is lighter than a PNG of the same size."""
    with Image.open(BytesIO(data), formats=FORMATS) as opened:
        if opened.width * opened.height > MAX_PIXELS or not opened.width * opened.height:
            return
        kind = "PNG" if opened.format == "GIF" else str(opened.format)
        # Of an animation this is the first picture. Palettes cannot be scaled smoothly.
        image: Image.Image = opened
        if opened.mode in ("1", "P"):
            image = opened.convert("RGBA" if opened.has_transparency_data else "RGB")
        image.thumbnail((side, side), reducing_gap=2.0)
        image = ImageOps.exif_transpose(image)
    yield _encoded(image if kind != "JPEG" else image.convert("RGB"), kind)
    if kind != "JPEG":
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(image, mask=image if "A" in image.getbands() else None)
        yield _encoded(canvas, "JPEG")


def _encoded(image: Image.Image, kind: str) -> ScaledImage:
    buffer = BytesIO()
    options = {"quality": 85} if kind != "PNG" else {"optimize": False}
    image.save(buffer, kind, **options)
    return ScaledImage(f"image/{kind.lower()}", buffer.getvalue())
