"""The pictures of the documentation: `python -m tests.browser.screenshots` writes docs/images."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

MAX_BYTES = 150_000
PAGES = {
    "dashboard": "/admin/",
    "provider": "/admin/providers/provider/add/?preset=openrouter",
    "history": "/admin/proxy/requestlog/?since=24",
    "call": "/admin/proxy/requestlog/880/change/",
}
LOOKS = {
    "light": ("light", 1200, 900),
    "dark": ("dark", 1200, 900),
    "phone": ("light", 390, 844),
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
            for page, path in PAGES.items():
                for look, (theme, width, height) in LOOKS.items():
                    browser.look(theme, width, height)
                    browser.open(path)
                    picture = browser.driver.get_screenshot_as_png()
                    if len(picture) > MAX_BYTES:
                        raise SystemExit(f"{page}-{look}: {len(picture)} bytes are too many")
                    (images / f"{page}-{look}.png").write_bytes(picture)
        finally:
            browser.quit()


if __name__ == "__main__":
    main()
