"""Images are scaled down to what a provider takes, and nothing that is sent can hurt."""

from __future__ import annotations

import asyncio
import base64
import json
import zlib
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from proxy import scaling
from proxy.scaling import scale
from tests.histories import image, png
from tests.proxy import WITH_DATABASE, body_of, fallback, primary, running_proxy
from tests.upstreams import Connection, FakeProvider, Received, ok, refuse

PIXELS = (
    "messages.0.content.0.image.source.base64.data: At least one of the image dimensions exceed "
    "max allowed size for many-image requests: 2000 pixels"
)


def picture(kind: str, width: int, height: int, mode: str = "RGB", noise: bool = False) -> bytes:
    buffer = BytesIO()
    if noise:
        made = Image.effect_noise((width, height), 80).convert(mode)
    else:
        made = Image.new(mode, (width, height))
    made.save(buffer, kind)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    with Image.open(BytesIO(data)) as found:
        found.load()
        return found


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize(("size", "becomes"), [((300, 30), (100, 10)), ((3, 300), (1, 100))])
def test_the_longest_side_fits_and_the_proportions_stay(
    kind: str, size: tuple[int, int], becomes: tuple[int, int]
) -> None:
    scaled = scale(picture(kind, *size), 100, None)
    assert scaled is not None
    found = opened(scaled.data)
    assert found.size == becomes
    assert scaled.media_type == f"image/{str(found.format).lower()}"
    assert found.format == ("PNG" if kind == "GIF" else kind)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_pictures_of_every_kind_of_colour_are_scaled(mode: str) -> None:
    scaled = scale(picture("PNG", 300, 200, mode), 100, None)
    assert scaled is not None and opened(scaled.data).size == (100, 67)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_one_that_weighs_too_much_becomes_lighter_but_no_smaller_than_necessary(mode: str) -> None:
    heavy = picture("PNG", 1400, 1400, mode, noise=True)
    scaled = scale(heavy, None, 600_000)
    assert scaled is not None and len(scaled.data) <= 600_000 < len(heavy)
    assert max(opened(scaled.data).size) in (1024, 1400), scaled


def test_what_is_photographed_sideways_stays_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = BytesIO()
    Image.new("RGB", (400, 200)).save(buffer, "JPEG", exif=exif)
    scaled = scale(buffer.getvalue(), 100, None)
    assert scaled is not None and opened(scaled.data).size == (50, 100)


def bomb(width: int, height: int) -> bytes:
    """A few bytes that say they are a huge picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + check

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x00\x00\x00\x00"
    pixels = zlib.compress(b"\0" * 1_000_000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "no picture": b"x" * 1000,
    "a head alone": png(3000, 3000),
    "a bomb": bomb(50_000, 50_000),
    "a bomb just below the library's own limit": bomb(13_000, 13_000),
    "too few pixels": bomb(3000, 3000),
    "cut off": picture("PNG", 3000, 10)[:-30],
    "another format": picture("BMP", 3000, 10),
    "a vector": b'<svg xmlns="http://www.w3.org/2000/svg" width="9000"/>',
    "a document": b"%PDF-1.7\n",
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_what_cannot_be_scaled_is_said_so(hostile: bytes) -> None:
    assert scale(hostile, 2000, None) is None


def test_a_limit_that_cannot_be_met_is_not() -> None:
    assert scale(picture("PNG", 600, 600, noise=True), None, 100) is None


def test_what_is_longer_than_any_picture_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "MAX_ENCODED", 100)
    assert scale(picture("PNG", 300, 300, noise=True), 100, None) is None


# --- through the proxy -------------------------------------------------------------------


def request(*pictures: bytes) -> bytes:
    content: list[Any] = [image(data) for data in pictures]
    return body_of(
        messages=[{"role": "user", "content": [*content, {"type": "text", "text": "?"}]}]
    )


def sent(received: Received) -> list[Any]:
    content: list[Any] = json.loads(received.body)["messages"][0]["content"]
    return content


@WITH_DATABASE
async def test_large_images_are_scaled_and_the_others_stay_as_they_are() -> None:
    small, wide, broken = picture("PNG", 1999, 10), picture("PNG", 3000, 30), png(3000, 30)
    async with FakeProvider(refuse(400, PIXELS, "invalid_request_error"), ok()) as up:
        async with running_proxy(fallback(up)) as proxy:
            answer = await proxy.call(request(small, wide, broken))
            assert answer["x-ccf-attempts"] == "openrouter=400,openrouter=200"
            kept, scaled, lost, _ = sent(up.requests[1])
            assert kept == image(small)
            assert lost["text"] == "[image omitted: too large for this provider]"
            assert scaled["source"]["media_type"] == "image/png"
            assert opened(base64.b64decode(scaled["source"]["data"])).size == (2000, 20)
            (attempts,) = await proxy.attempts()
            assert [record["name"] for record in attempts[1].repairs] == ["images_too_large"]


@WITH_DATABASE
async def test_the_primary_is_not_sent_other_images_than_the_clients() -> None:
    async with FakeProvider(refuse(400, PIXELS, "invalid_request_error")) as up:
        async with running_proxy(primary(up)) as proxy:
            assert (await proxy.call(request(picture("PNG", 3000, 30)))).status == 400
            assert len(up.requests) == 1


@WITH_DATABASE
async def test_other_calls_go_on_while_images_are_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(*limits: Any) -> None:
        loop.call_soon_threadsafe(started.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(20)

    async def refuses_images(connection: Connection, received: Received) -> None:
        step = refuse(400, PIXELS, "invalid_request_error") if b"base64" in received.body else ok()
        await step(connection, received)

    monkeypatch.setattr("proxy.mending.scale", slow)
    async with FakeProvider(refuses_images) as up, running_proxy(fallback(up)) as proxy:
        waiting = asyncio.create_task(proxy.call(request(picture("PNG", 3000, 30))))
        async with asyncio.timeout(20):
            await started.wait()
        assert (await proxy.call()).status == 200
        assert not waiting.done()
        go_on.set()
        assert (await waiting).status == 200
