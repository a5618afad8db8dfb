"""A headless Chromium for tests: Debian's, steered through its driver, without any network."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import fails_without

# selenium looks for drivers and counts its users over the network, unless it is told not to.
os.environ.setdefault("SE_OFFLINE", "true")
os.environ.setdefault("SE_AVOID_STATS", "true")
_PACKAGES = {"chromium": "chromium", "chromedriver": "chromium-driver"}
PATIENCE_S = 20.0


@contextmanager
def chromium(downloads: Path) -> Iterator[Any]:
    """The driver of a browser; a test is skipped, or under CI fails, where there is none."""
    for program, package in _PACKAGES.items():
        if shutil.which(program) is None:
            (pytest.fail if fails_without(package) else pytest.skip)(f"{package} is not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in (
        *("--headless=new", "--window-size=1280,900", "--no-first-run", "--disable-gpu"),
        *("--disable-dev-shm-usage", "--disable-background-networking", "--disable-sync"),
        *("--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND"),
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
    try:
        allowed = {"behavior": "allow", "downloadPath": str(downloads)}
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", allowed)
        yield driver
    finally:
        driver.quit()


class Tab:
    """The browser's tab: opens pages and waits for them."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, address: str) -> Tab:
        self.driver.get(address)
        self.wait(lambda: self.js("return document.documentElement.dataset.ready") == "yes")
        return self

    def js(self, program: str, *arguments: Any) -> Any:
        return self.driver.execute_script(program, *arguments)

    def wait(self, is_so: Callable[[], Any]) -> Any:
        until = time.monotonic() + PATIENCE_S
        while not (found := is_so()):
            assert time.monotonic() < until, f"waited in vain; {self.driver.get_log('browser')}"
            time.sleep(0.01)
        return found

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return str(self.js("return document.querySelector(arguments[0]).textContent", selector))

    def drawn(self) -> None:
        """Wait until the page has been drawn again."""
        self.wait(lambda: not self.js("return thePage.isDue"))

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def click(self, selector: str, part: float = 0.5) -> None:
        """Click at a part of an element's width."""
        from selenium.webdriver import ActionChains

        found = self.find(selector)
        off = int((part - 0.5) * found.size["width"])
        ActionChains(self.driver).move_to_element_with_offset(found, off, 0).click().perform()

    def requests(self) -> list[str]:
        """Addresses that were asked for since the last call."""
        told = [json.loads(row["message"])["message"] for row in self.driver.get_log("performance")]
        sent = [one["params"] for one in told if one["method"] == "Network.requestWillBeSent"]
        return [one["request"]["url"] for one in sent]

    def complaints(self) -> list[str]:
        """Errors, and refusals of the content security policy, since the last call."""
        told = [row["message"] for row in self.driver.get_log("browser")]
        return [text for text in told if "willReadFrequently" not in text]  # of tests that look
