"""Pages in a real Chromium: the system's own, driven by Playwright."""

from __future__ import annotations

import importlib.resources
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

#: Names under which systems have it.
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: Set by .ci/run where it could not install one.
NO_BROWSER = "VREID_NO_BROWSER"


def find_chromium() -> str:
    """The system's Chromium; skips the test where there is none, which CI=true forbids."""
    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if found is not None:
        return found
    message = f"no Chromium (looked for {', '.join(CHROMIUM)})"
    if os.environ.get("CI") == "true" and not os.environ.get(NO_BROWSER):
        pytest.fail(f"{message}: apt-get install chromium")
    pytest.skip(message)


@dataclass
class Opened:
    """A page in the browser.

    Attributes:
        page: Playwright's page.
        complaints: What the console said, and errors of scripts.
        requests: Addresses of what was asked for outside the page's own files.
    """

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def texts(self, selector: str) -> list[str]:
        """The texts of all elements that a selector finds."""
        found: list[str] = self.page.locator(selector).all_inner_texts()
        return found

    def queries(self) -> list[str]:
        """The queries that are shown."""
        found: list[str] = self.page.locator(".query h2 bdi").all_text_contents()
        return found

    def choose(self, **fields: str) -> list[str]:
        """Fill fields of the filter by their ids, and return the queries that are then shown."""
        for name, value in fields.items():
            self.page.locator(f"#{name.replace('_', '-')}").evaluate(
                "(field, value) => { field.value = value; field.dispatchEvent(new Event('input', {bubbles: true})); }",
                value,
            )
        self.page.wait_for_timeout(250)
        return self.queries()

    def serious_violations(self) -> list[str]:
        """What axe-core finds that keeps people from using the page."""
        axe = importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
        self.page.evaluate(axe)
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        return [
            f"{one['id']}: {one['help']}: {one['nodes'][0]['html'][:200]}"
            for one in found
            if one["impact"] in ("serious", "critical")
        ]


@dataclass
class Chromium:
    """A browser that opens pages."""

    browser: Any

    @contextmanager
    def open(self, path: Path, *, width: int = 1300, dark: bool = False, context: Any = None) -> Iterator[Opened]:
        """Open a page; at the end the console must have said nothing, and nothing was asked for elsewhere.

        Args:
            path: The page's file.
            width: Of the window.
            dark: Whether the reader prefers a dark page.
            context: A context of Playwright, to share local storage; by default a fresh one.
        """
        scheme = "dark" if dark else "light"
        own = context or self.browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
        page = own.new_page()
        opened = Opened(page)
        page.on("console", lambda message: opened.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: opened.complaints.append(f"error: {error}"))
        page.on("request", lambda request: _note(opened, request.url))
        page.goto(path.resolve().as_uri())
        yield opened
        page.close()
        if context is None:
            own.close()
        assert opened.complaints == []
        assert opened.requests == []


def _note(opened: Opened, address: str) -> None:
    if not address.startswith(("data:", "file:", "blob:")):
        opened.requests.append(address)


@contextmanager
def start_chromium() -> Iterator[Chromium]:
    """Start the system's Chromium without a display."""
    path = find_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # As root, as in a container, Chromium starts only without its sandbox; the pages are our own.
        arguments = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
        arguments.append("--disable-dev-shm-usage")  # of which containers have little
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield Chromium(browser)
        browser.close()
