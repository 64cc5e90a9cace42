"""The pictures of the documentation: every page, light, dark and on a phone.

    .venv/bin/pip install -r .ci/requirements.txt && .venv/bin/python -m tests.browser.screenshots

writes docs/images. Needs Chromium and its driver, as the tests beside it do.
"""

from __future__ import annotations

import io
import json
import os
import struct
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

if TYPE_CHECKING:
    from tests.browser.driving import Browser

MAX_BYTES = 100_000
FLAT_COLOURS, OTHER_COLOURS = 96, 64
LOOKS = {
    "light": ("light", 1280, 860),
    "dark": ("dark", 1280, 860),
    "phone": ("light", 390, 844),
}
IMPORTED = {
    "providers": [
        {"name": "kimi", "baseUrl": "https://api.moonshot.cn/anthropic"},
        {
            "name": "groq",
            "baseUrl": "https://api.groq.com/openai/v1",
            "format": "openai",
            "authHeader": "Authorization",
            "apiKey": "gsk-demo",
            "modelMapping": {"*": "openai/gpt-oss-120b"},
        },
    ]
}


def open_page(path: str) -> Callable[[Browser], None]:
    """A page that shows itself."""
    return lambda browser: browser.open(path)


def issue_token(browser: Browser) -> None:
    browser.open("/admin/providers/accesstoken/add/")
    browser.fill("note", "build server")
    browser.click("input[name=_save]")
    token = browser.until(lambda: browser.text("#text-token"))
    browser.script(
        "document.body.innerHTML = document.body.innerHTML.replaceAll(...arguments)",
        token,
        "sk-ccf-" + "0123456789" * 4,
    )


def test_new_provider(browser: Browser) -> None:
    """What is in the form is tested, and not saved."""
    from tests.browser.upstream import fake_provider

    with fake_provider() as upstream:
        browser.open("/admin/providers/provider/add/?preset=kimi")
        browser.fill("base_url", upstream.url)
        browser.fill("api_key", "sk-demo")
        browser.click("button[data-test]")
        browser.until(lambda: browser.all("#ccf-test-results tbody tr"))
    browser.fill("base_url", "https://api.moonshot.ai/anthropic")
    browser.script("document.querySelector('#mappings-group').scrollIntoView()")


def preview_import(browser: Browser) -> None:
    browser.open("/admin/transfer/")
    browser.one("[name=text]").send_keys(json.dumps(IMPORTED))
    browser.click("form[aria-labelledby=ccf-import] input[type=submit]")
    browser.until(lambda: "What will change" in browser.text())


PAGES: dict[str, Callable[[Browser], None]] = {
    "dashboard": open_page("/admin/"),
    "providers": open_page("/admin/providers/provider/"),
    "presets": open_page("/admin/providers/provider/add/"),
    "provider": open_page("/admin/providers/provider/2/change/"),
    "connection-test": test_new_provider,
    "connect": open_page("/admin/connect/"),
    "token": issue_token,
    "history": open_page("/admin/proxy/requestlog/"),
    "session": open_page("/admin/proxy/requestlog/?session=5e550073-8d2c-4f7e-9a51-6b1f0c9d2e44"),
    "call": open_page("/admin/proxy/requestlog/880/change/"),
    "learned": open_page("/admin/providers/learnedfact/"),
    "settings": open_page("/admin/providers/proxysettings/1/change/"),
    "import": preview_import,
}


def main() -> None:
    import django

    django.setup()
    from django.conf import settings

    from tests.browser.driving import Browser
    from tests.browser.installation import Installation

    images = Path(settings.BASE_DIR) / "docs" / "images"
    images.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, Installation(Path(directory)) as installation:
        browser = Browser(installation.url, Path(directory) / "profile")
        try:
            browser.log_in()
            for page, show in PAGES.items():
                for look, (theme, width, height) in LOOKS.items():
                    browser.look(theme, width, height)
                    show(browser)
                    picture = small(browser.driver.get_screenshot_as_png())
                    if len(picture) > MAX_BYTES:
                        raise SystemExit(f"{page}-{look}: {len(picture)} bytes are too many")
                    (images / f"{page}-{look}.png").write_bytes(picture)
        finally:
            browser.quit()


def small(picture: bytes) -> bytes:
    """The same PNG with a palette: the flat colours as they are, of the edges of letters a few."""
    from PIL import Image

    image = Image.open(io.BytesIO(picture)).convert("RGB")
    counted = Counter(struct.iter_unpack("BBB", image.tobytes()))
    flat = [channel for colour, _count in counted.most_common(FLAT_COLOURS) for channel in colour]
    others = image.quantize(OTHER_COLOURS, method=Image.Quantize.MAXCOVERAGE).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette(flat + others[: 3 * OTHER_COLOURS])
    file = io.BytesIO()
    image.quantize(palette=palette, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


if __name__ == "__main__":
    main()
