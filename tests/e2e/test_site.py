"""The pages as a site: it builds without a warning, and opens as files, without a server or a network."""

from __future__ import annotations

import html
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Chromium, start_chromium

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    surroundings = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with start_chromium() as started:
        yield started


@pytest.mark.slow
def test_the_site_shows_every_command_and_setting(site: Path) -> None:
    commands = (site / "commands.html").read_text(encoding="utf-8")
    assert all(f'id="vreid-{name}"' in commands for name in ("extract", "rank", "show", "export-model"))
    assert "<code>--top-k</code>" in commands
    assert "<code>t2t|<wbr>i2t|<wbr>i2i</code>" in html.unescape(commands)
    assert "<code>resamples</code>" in (site / "settings.html").read_text(encoding="utf-8")
    assert "unpkg.com" not in "".join(page.read_text(encoding="utf-8") for page in site.glob("*.html"))


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_fit_the_window(site: Path, chromium: Chromium, width: int) -> None:
    for name in ("index", "quick-start", "commands", "api", "definitions"):
        with chromium.open(site / f"{name}.html", width=width) as opened:
            assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
@pytest.mark.browser
def test_a_page_that_was_opened_as_a_file_can_be_searched(site: Path, chromium: Chromium) -> None:
    with chromium.open(site / "index.html") as opened:
        opened.page.locator("input.md-search__input").click()
        opened.page.keyboard.type("silhouette")
        opened.page.locator(".md-search-result__link").first.wait_for()
        assert "Definitions" in opened.texts(".md-search-result__list")[0]
