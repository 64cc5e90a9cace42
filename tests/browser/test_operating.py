"""An operator's first quarter of an hour, in a real browser."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser.installation import Installation
from tests.browser.upstream import fake_provider
from tests.upstreams import FakeProvider

if TYPE_CHECKING:
    from tests.browser.driving import Browser

KEY = "sk-typed-into-the-form-0123"


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeProvider]:
    with fake_provider() as provider:
        yield provider


def names(browser: Browser) -> list[str]:
    return [cell.text for cell in browser.all("#result_list .field-name")]


def call(installation: Installation, token: str, session: str) -> dict[str, str]:
    """One message through the proxy; the headers of its answer."""
    body = {
        "model": "claude-sonnet-5",
        "max_tokens": 10,
        "stream": True,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    request = urllib.request.Request(
        f"{installation.url}/v1/messages",
        json.dumps(body).encode(),
        {
            "x-ccf-api-key": token,
            "content-type": "application/json",
            "x-claude-code-session-id": session,
        },
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        assert b"message_stop" in response.read()
        return {name.lower(): value for name, value in response.headers.items()}


def test_an_operator_sets_up_a_provider_and_watches_a_call(
    installation: Installation, browser: Browser, upstream: FakeProvider
) -> None:
    browser.look()
    browser.complaints()  # those of other tests: there are pages that are not there
    _add_from_a_preset(browser, upstream)
    _test_it_before_saving(browser, upstream)
    browser.click("input[name=_save]")
    browser.until(lambda: "new-one" in names(browser))
    _drag_to_the_top(browser)
    token = _issue_a_token(browser)
    _see_a_call_arrive(installation, browser, token)
    _read_it(browser)
    _export_it(browser)
    assert browser.complaints() == []


def _add_from_a_preset(browser: Browser, upstream: FakeProvider) -> None:
    browser.open("/admin/")
    browser.link("Providers").click()
    browser.click(".object-tools a.addlink")
    browser.until(lambda: browser.link("Kimi (Moonshot AI)")).click()
    url = browser.until(lambda: browser.one("[name=base_url]").get_attribute("value"))
    assert url == "https://api.moonshot.ai/anthropic"
    rows = browser.all("tr.form-row:not(.empty-form) [name$=-source]")
    assert [row.get_attribute("value") for row in rows][:1] == ["claude-opus-*"]
    browser.fill("name", "new-one")
    browser.fill("base_url", upstream.url)
    browser.fill("api_key", KEY)


def _test_it_before_saving(browser: Browser, upstream: FakeProvider) -> None:
    browser.one("button[data-test]").click()
    browser.until(lambda: len(browser.all("#ccf-test-results tbody tr")) == 3)
    results = browser.text("#ccf-test-results")
    assert results.count("works") == 3 and "kimi-k3" in results
    assert upstream.requests[0].values("authorization") == [f"Bearer {KEY}".encode()]
    # The form is still as it was filled in.
    assert browser.one("[name=api_key]").get_attribute("value") == KEY


def _drag_to_the_top(browser: Browser) -> None:
    before = names(browser)
    assert before.index("new-one") > 0
    handles = browser.all("#result_list .drag.handle")
    handle = handles[before.index("new-one")]
    browser.drag_above(handle, handles[0])
    browser.until(lambda: names(browser)[:1] == ["new-one"])

    # What is on the screen has been saved, sooner or later.
    def saved() -> bool:
        browser.open("/admin/providers/provider/")
        return names(browser)[:1] == ["new-one"]

    browser.until(saved)


def _issue_a_token(browser: Browser) -> str:
    browser.open("/admin/connect/")
    browser.link("Create a token").click()
    browser.until(lambda: browser.one("[name=note]"))
    browser.fill("note", "the browser's client")
    browser.click("input[name=_save]")
    token = browser.until(lambda: browser.text("#text-token"))
    assert token.startswith("sk-ccf-")
    assert token in browser.text("#text-shell") and token in browser.text("#text-settings")
    assert browser.one("button[data-copy]").is_displayed()
    browser.one("button[data-copy]").click()
    browser.until(lambda: browser.one("button[data-copy]").text == "Copied")
    return token


def _see_a_call_arrive(installation: Installation, browser: Browser, token: str) -> None:
    """Without a click: the list refreshes itself."""
    browser.open("/admin/proxy/requestlog/?kind=messages")
    browser.one("input[data-refresh]").click()
    headers = browser.until(lambda: _answered(installation, token))
    assert headers and headers["x-ccf-provider"] == "new-one"
    browser.until(lambda: "the browser's client" in browser.text("#ccf-calls"))
    assert browser.path.endswith("?kind=messages")
    browser.one("input[data-refresh]").click()
    # A refresh that had begun may still replace the list.
    first = browser.until(lambda: browser.text("#result_list tbody tr"))
    assert "new-one" in first and "answered" in first


def _answered(installation: Installation, token: str) -> dict[str, str] | None:
    """A second may pass until the worker has heard of the token."""
    try:
        return call(installation, token, "session-of-the-browser")
    except urllib.error.HTTPError as error:
        assert error.code == 401, error.read()
        return None


def _read_it(browser: Browser) -> None:
    browser.click("#result_list tbody tr th a")
    browser.until(lambda: "new-one answered." in browser.text())
    page = browser.text()
    assert "1. new-one" in page and "kimi-k3" in page
    assert len(browser.all(".ccf-waterfall .ccf-bars rect")) == 2
    assert KEY not in browser.driver.page_source
    browser.link("Whole conversation").click()
    browser.until(lambda: "session=session-of-the-browser" in browser.path)
    browser.until(lambda: browser.all("#result_list tbody tr"))


def _export_it(browser: Browser) -> None:
    url = browser.until(lambda: browser.link("Export as CSV")).get_attribute("href")
    text = browser.driver.execute_async_script(
        "const done = arguments[1]; fetch(arguments[0]).then(r => r.text()).then(done)", url
    )
    [heading, first, *_rest] = text.splitlines()
    assert heading.startswith("time,request_id")
    assert "new-one=200" in first and "session-of-the-browser" in first


def test_providers_are_reordered_with_the_keyboard(browser: Browser) -> None:
    browser.look()
    browser.open("/admin/providers/provider/")
    before = names(browser)
    button = browser.one(f"[aria-label='Move {before[1]} up']")
    button.send_keys("\n")
    browser.until(lambda: names(browser)[:2] == [before[1], before[0]])
    browser.one(f"[aria-label='Move {before[1]} down']").send_keys(" ")
    browser.until(lambda: names(browser) == before)


def test_the_countdown_runs(browser: Browser) -> None:
    browser.look()
    browser.open("/admin/")
    end = int(browser.one(".ccf-countdown").get_attribute("data-until") or 0)
    browser.script(
        "document.querySelector('.ccf-countdown').dataset.until = arguments[0]",
        browser.script("return Date.now() / 1000") + 30.4,
    )
    shown = browser.until(lambda: [t for t in [browser.text(".ccf-countdown")] if " s" in t])
    assert shown[0] in ("in 30 s", "in 29 s", "in 28 s")
    assert end > 0


def test_a_refresh_keeps_away_from_what_is_in_use(browser: Browser) -> None:
    """Else a keyboard's place in the page would be lost every few seconds."""
    browser.look()
    browser.open("/admin/")
    first = "document.querySelector('.ccf-card a')"
    browser.script(f"{first}.id = 'the-old-one'; {first}.focus()")
    box = "document.querySelector('input[data-refresh]')"
    browser.script(f"{box}.checked = true; {box}.dispatchEvent(new Event('change'))")
    assert browser.script(f"return {first}.id") == "the-old-one"
    browser.script(f"{first}.blur(); {box}.dispatchEvent(new Event('change'))")
    browser.until(lambda: browser.script(f"return {first}.id") == "")
    browser.script(f"{box}.checked = false; {box}.dispatchEvent(new Event('change'))")
