"""A real browser, and a real installation for it to look at."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.browser.driving import Browser
    from tests.browser.installation import Installation


def _missing() -> str:
    """What is not there that a browser test needs, "" when all is."""
    if importlib.util.find_spec("selenium") is None:
        return "the Python package selenium is not installed"
    for names in (("chromium", "chromium-browser", "google-chrome"), ("chromedriver",)):
        if not any(shutil.which(name) for name in names):
            return f"no {' or '.join(names)} is installed"
    return ""


@pytest.fixture(scope="session", autouse=True)
def _browser_or_reason() -> None:
    """Without a browser these tests are skipped; with REQUIRE_BROWSER=1 they fail."""
    if missing := _missing():
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(f"REQUIRE_BROWSER=1, but {missing}")
        pytest.skip(missing)


@pytest.fixture(scope="session")
def installation(_browser_or_reason: None) -> Iterator[Installation]:
    """Filled with a week of calls, and serving."""
    from tests.browser.installation import Installation

    with tempfile.TemporaryDirectory(prefix="fallbackproxy-browser-") as directory:
        with Installation(Path(directory)) as installation:
            yield installation


@pytest.fixture(scope="session")
def browser(installation: Installation) -> Iterator[Browser]:
    """Logged in as the administrator."""
    from tests.browser.driving import Browser

    with tempfile.TemporaryDirectory(prefix="fallbackproxy-profile-") as profile:
        browser = Browser(installation.url, Path(profile))
        try:
            browser.log_in()
            yield browser
        finally:
            browser.quit()
