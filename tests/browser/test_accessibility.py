"""Every page, light, dark and on a phone: no serious fault that axe-core finds, none too wide."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.browser.driving import Browser
    from tests.browser.installation import Installation

TAB, ENTER = "\ue004", "\ue007"
"""As WebDriver writes these keys: selenium may not be there to be imported."""

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
    "a session": "/admin/proxy/requestlog/?session=5e550074-8d2c-4f7e-9a51-6b1f0c9d2e44",
    "users": "/admin/auth/user/",
    "password": "/admin/password_change/",
    "no such page": "/no/such/page",
}
# Django's own widget for groups has faults of its own: for this page only the fitting is tested.
ALL_PAGES = {**PAGES, "user": "/admin/auth/user/1/change/"}
LOOKS = {"light": ("light", 1280), "dark": ("dark", 1280), "phone": ("light", 390)}
WIDTHS = (360, 390, 768, 1280)
HEIGHT = 844


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core."""
    path = os.environ.get("AXE_CORE", "")
    if not path:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail("REQUIRE_BROWSER=1, but AXE_CORE does not name axe.min.js")
        pytest.skip("AXE_CORE does not name axe.min.js")
    return Path(path).read_text()


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_serious_fault(browser: Browser, axe: str, page: str, look: str) -> None:
    browser.look(*LOOKS[look], HEIGHT)
    browser.open(PAGES[page])
    assert faults_in(browser, axe) == []
    expected = ["404"] if page == "no such page" else []
    assert [c for c in browser.complaints() if not any(e in c for e in expected)] == []


def test_the_login_page_has_no_serious_fault(
    installation: Installation, axe: str, tmp_path: Path
) -> None:
    from tests.browser.driving import Browser

    browser = Browser(installation.url, tmp_path)
    try:
        for theme, width in LOOKS.values():
            browser.look(theme, width, HEIGHT)
            browser.open("/admin/")
            assert browser.one("input[type=submit]").get_attribute("value") == "Log in"
            assert faults_in(browser, axe) == []
    finally:
        browser.quit()


def faults_in(browser: Browser, axe: str) -> list[tuple[str, object, str]]:
    """What axe-core calls serious or critical on the page that is open."""
    browser.script(axe)
    found = browser.driver.execute_async_script(
        "const done = arguments[0]; axe.run().then(r => done(r.violations), e => done([String(e)]))"
    )
    return [
        (fault["id"], node["target"], node["failureSummary"])
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize("page", ALL_PAGES)
def test_a_page_is_as_wide_as_its_window(browser: Browser, page: str) -> None:
    for width in WIDTHS:
        browser.look(width=width, height=HEIGHT)
        browser.open(ALL_PAGES[page])
        found = browser.script("return document.documentElement.scrollWidth")
        assert found <= width, f"{found} px in {width}"


@pytest.mark.parametrize("page", ["new provider", "settings", "user", "password"])
def test_nothing_of_a_form_is_cut_off_on_a_phone(browser: Browser, page: str) -> None:
    browser.look(width=360, height=HEIGHT)
    browser.open(ALL_PAGES[page])
    browser.script("for (const group of document.querySelectorAll('details')) group.open = true")
    cut = browser.script(
        "return [...document.querySelectorAll('.form-row :is(input, select, textarea, label)')]"
        ".filter(e => e.offsetParent && e.type !== 'hidden')"
        ".filter(e => { const box = e.closest('fieldset, .inline-group').getBoundingClientRect();"
        " const own = e.getBoundingClientRect();"
        " return own.left < box.left + 4 || own.right > box.right - 4 })"
        ".map(e => e.id || e.textContent)"
    )
    assert cut == []


def test_a_keyboard_can_skip_to_the_content(browser: Browser) -> None:
    browser.look()
    browser.open("/admin/proxy/requestlog/")
    browser.one("body").send_keys(TAB)
    focused = browser.driver.switch_to.active_element
    assert focused.text == "Skip to main content"
    assert focused.is_displayed() and focused.location["y"] >= 0
    focused.send_keys(ENTER)
    browser.until(lambda: browser.path.endswith("#content-start"))


def test_what_has_the_focus_can_be_seen(browser: Browser) -> None:
    """By an outline, in both themes."""
    for theme in ("light", "dark"):
        browser.look(theme)
        browser.open("/admin/providers/provider/")
        for _ in range(12):
            browser.driver.switch_to.active_element.send_keys(TAB)
            outline = browser.script(
                "const style = getComputedStyle(document.activeElement);"
                "return [style.outlineStyle, parseFloat(style.outlineWidth), style.boxShadow]"
            )
            assert (outline[0] != "none" and outline[1] >= 1) or outline[2] != "none", outline
