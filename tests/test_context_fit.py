"""Whether a prompt fits a model's context, and how much output is asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rectifiers.fit import MARGIN, MIN_OUTPUT, Fit, fits
from proxy.rectifiers.image_size import image_size
from tests.histories import png


@pytest.mark.parametrize(
    ("estimate", "max_tokens", "window", "most", "expected"),
    [
        pytest.param(1000, 32_000, None, None, Fit(True, 32_000), id="nothing is known"),
        pytest.param(1000, None, None, None, Fit(True, None), id="nothing is asked"),
        pytest.param(1000, 128_000, None, 64_000, Fit(True, 64_000), id="the model's limit"),
        pytest.param(1000, None, None, 8192, Fit(True, 8192), id="only the limit is known"),
        pytest.param(1000, 32_000, 200_000, 64_000, Fit(True, 32_000), id="plenty of room"),
        pytest.param(190_000, 32_000, 200_000, None, Fit(True, 9936), id="less room"),
        pytest.param(199_000, 32_000, 200_000, None, Fit(False, 32_000), id="too little room"),
        pytest.param(210_000, 32_000, 200_000, None, Fit(False, 32_000), id="too long"),
        pytest.param(199_000, 100, 200_000, None, Fit(True, 100), id="little is asked"),
        pytest.param(190_000, None, 200_000, None, Fit(True, None), id="no limit asked, some room"),
        pytest.param(199_900, None, 200_000, None, Fit(False, None), id="no limit asked, no room"),
        pytest.param(-5, 10, 200_000, None, Fit(True, 10), id="an odd estimate"),
    ],
)
def test_output_is_fitted_to_model_and_context(
    estimate: int, max_tokens: int | None, window: int | None, most: int | None, expected: Fit
) -> None:
    assert fits(estimate, max_tokens, window, most) == expected


figures = st.one_of(st.none(), st.integers(1, 300_000))


@given(st.integers(0, 300_000), figures, figures, figures)
def test_what_fits_never_exceeds_a_limit(
    estimate: int, max_tokens: int | None, window: int | None, most: int | None
) -> None:
    found = fits(estimate, max_tokens, window, most)
    if not found.fits or found.max_tokens is None:
        return
    for limit in (max_tokens, most):
        assert limit is None or found.max_tokens <= limit
    assert window is None or estimate + found.max_tokens + MARGIN <= window
    asked = min(limit for limit in (max_tokens, most) if limit is not None)
    assert found.max_tokens >= min(asked, MIN_OUTPUT)


JPEG = (
    b"\xff\xd8\xff\xe0\x00\x10JFIF"
    + b"\0" * 10
    + b"\xff\xff\xc2\x00\x11\x08\x01\x2c\x02\x58\x03"
    + b"\0" * 8
)
WEBP = b"RIFF\0\0\0\0WEBP"


@pytest.mark.parametrize(
    ("head", "size"),
    [
        pytest.param(png(640, 480), (640, 480), id="png"),
        pytest.param(png()[:20], None, id="png, cut"),
        pytest.param(b"GIF89a" + b"\x80\x02\xe0\x01", (640, 480), id="gif"),
        pytest.param(b"GIF89a\x80", None, id="gif, cut"),
        pytest.param(JPEG, (600, 300), id="jpeg"),
        pytest.param(JPEG[:24], None, id="jpeg, cut"),
        pytest.param(b"\xff\xd8\x00\x00" + b"\0" * 20, None, id="jpeg, broken"),
        pytest.param(
            WEBP + b"VP8X" + b"\0" * 8 + b"\x7f\x02\x00\xdf\x01\x00",
            (640, 480),
            id="webp, extended",
        ),
        pytest.param(
            WEBP + b"VP8L\0\0\0\0\x2f" + (639 | 479 << 14).to_bytes(4, "little"),
            (640, 480),
            id="webp, lossless",
        ),
        pytest.param(
            WEBP + b"VP8 " + b"\0" * 10 + b"\x80\x02\xe0\x01", (640, 480), id="webp, lossy"
        ),
        pytest.param(WEBP + b"VP8 ", None, id="webp, cut"),
        pytest.param(b"BM" + b"\0" * 40, None, id="another format"),
        pytest.param(b"", None, id="nothing"),
    ],
)
def test_the_size_of_an_image_is_read_from_its_first_bytes(
    head: bytes, size: tuple[int, int] | None
) -> None:
    assert image_size(head) == size


@given(st.sampled_from([png(), JPEG, WEBP + b"VP8L", b"GIF87a"]), st.binary(max_size=40))
def test_any_bytes_are_read_without_harm(start: bytes, rest: bytes) -> None:
    image_size(start + rest)
    image_size(start[: len(rest)] + rest)
