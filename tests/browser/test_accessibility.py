"""Every page, in light and in dark: no serious fault that axe-core finds, nothing cut off."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.browser.driving import Browser

PAGES = {
    "front page": "/admin/",
    "a week": "/admin/?range=7d",
    "history": "/admin/proxy/requestlog/",
    "filtered history": "/admin/proxy/requestlog/?since=24&kind=messages",
    "no calls": "/admin/proxy/requestlog/?q=nothing-begins-like-this",
    "a call": "/admin/proxy/requestlog/880/change/",
    "providers": "/admin/providers/provider/",
    "presets": "/admin/providers/provider/add/",
    "new provider": "/admin/providers/provider/add/?preset=kimi",
    "provider": "/admin/providers/provider/2/change/",
    "primary": "/admin/providers/provider/1/change/",
    "provider's log": "/admin/providers/provider/2/history/",
    "deleting a provider": "/admin/providers/provider/2/delete/",
    "tokens": "/admin/providers/accesstoken/",
    "new token": "/admin/providers/accesstoken/add/",
    "learned facts": "/admin/providers/learnedfact/",
    "settings": "/admin/providers/proxysettings/1/change/",
    "import and export": "/admin/transfer/",
    "connect a client": "/admin/connect/",
    "connect without a login": "/admin/connect/?login=proxy",
}


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core."""
    path = os.environ.get("AXE_CORE", "")
    if not path:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail("REQUIRE_BROWSER=1, but AXE_CORE does not name axe.min.js")
        pytest.skip("AXE_CORE does not name axe.min.js")
    return Path(path).read_text()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_serious_fault(browser: Browser, axe: str, page: str, theme: str) -> None:
    browser.look(theme)
    browser.open(PAGES[page])
    browser.script(axe)
    found = browser.driver.execute_async_script(
        "const done = arguments[0]; axe.run().then(r => done(r.violations), e => done([String(e)]))"
    )
    faults = [
        (fault["id"], node["target"], node["failureSummary"])
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]
    assert faults == []
    assert browser.complaints() == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_a_phone(browser: Browser, page: str) -> None:
    browser.look(width=390, height=844)
    browser.open(PAGES[page])
    width = browser.script("return document.documentElement.scrollWidth")
    assert width <= 390, f"{width} px"
