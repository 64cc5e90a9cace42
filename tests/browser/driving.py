"""Headless Chromium, driven as a person would use it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser.demo import PASSWORD

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
)
PATIENCE = 15.0
T = TypeVar("T")


class Browser:
    """One window. Paths are relative to the installation's address."""

    def __init__(self, url: str, profile: Path) -> None:
        options = Options()
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        names = ("chromium", "chromium-browser", "google-chrome")
        options.binary_location = next(filter(None, map(shutil.which, names)))
        self.driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.driver.set_script_timeout(30)
        self.url = url
        self.look()

    def quit(self) -> None:
        self.driver.quit()

    def look(self, theme: str = "light", width: int = 1280, height: int = 900) -> None:
        """From now on: `theme` is "light" or "dark"; up to 600 px wide it is a phone."""
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": theme}]},
        )
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width <= 600},
        )

    def open(self, path: str) -> None:
        self.driver.get(self.url + path)

    @property
    def path(self) -> str:
        return self.driver.current_url.removeprefix(self.url)

    def log_in(self) -> None:
        self.open("/admin/login/")
        self.fill("username", "admin")
        self.fill("password", PASSWORD)
        self.one("input[type=submit]").click()
        self.until(lambda: self.path == "/admin/")

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> None:
        """As soon as it is there: the page may still be loading."""
        self.until(lambda: self.one(selector)).click()

    def link(self, text: str) -> WebElement:
        return self.driver.find_element(By.LINK_TEXT, text)

    def fill(self, name: str, value: str) -> None:
        field = self.one(f"[name={name}]")
        field.clear()
        field.send_keys(value)

    def drag_above(self, handle: WebElement, other: WebElement) -> None:
        """By the mouse, a little past the upper edge of `other`."""
        mouse = ActionChains(self.driver).click_and_hold(handle)
        mouse.move_to_element_with_offset(other, 0, -6).pause(0.2)
        mouse.move_by_offset(0, -6).pause(0.2).release().perform()

    def text(self, selector: str = "main") -> str:
        return self.one(selector).text

    def until(self, condition: Callable[[], T], seconds: float = PATIENCE) -> T:
        """Wait until `condition` holds."""
        # A page that is just being replaced takes its elements along.
        wait = WebDriverWait(
            self.driver, seconds, ignored_exceptions=[StaleElementReferenceException]
        )
        return wait.until(lambda _driver: condition())

    def script(self, source: str, *arguments: Any) -> Any:
        return self.driver.execute_script(source, *arguments)

    def complaints(self) -> list[str]:
        """What the browser has logged since the last time: broken scripts, missing files."""
        log: Any = self.driver
        return [entry["message"] for entry in log.get_log("browser")]
