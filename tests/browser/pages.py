"""Pages in a real headless Chromium, through Playwright: `open_page(path_or_url)` gives a page that is being watched.

At the end of a test every page that it opened must have had no error on its console, no exception in a script, and no request
but those for itself: `data:` addresses, and of a page from a server that server.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WIDTHS = (375, 1440)

OpenPage = Callable[..., Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium for all tests of this process."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    with playwright.sync_playwright() as started:
        # root has no sandbox, and a container's /dev/shm may be small
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[OpenPage]:
    """Open a file or an address: `open_page(path, width=375, dark=True)`; Playwright's `Page`.

    With `errors=True` the browser may complain of answers that it did not get, and of nothing else. What is given to
    `wait_for_function` must be a function, `() => ...`: Playwright evaluates a bare expression anew at each look, which the
    policy of our pages forbids from the second look on. It would pass only where there is nothing to wait for.
    """
    contexts: list[Any] = []
    complaints: list[str] = []

    def opened(where: Path | str, *, width: int = 1440, height: int = 900, dark: bool = False, errors: bool = False) -> Any:
        address = where.absolute().as_uri() if isinstance(where, Path) else where
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light")
        contexts.append(context)
        page = context.new_page()

        def said(message: Any) -> None:
            expected = errors and message.text.startswith("Failed to load resource")
            if message.type in ("error", "warning") and not expected:
                complaints.append(f"console: {message.text}")

        page.on("console", said)
        page.on("pageerror", lambda error: complaints.append(f"exception: {error}"))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: complaints.extend(_foreign(request.url, address)))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def _foreign(requested: str, address: str) -> list[str]:
    if requested.startswith(("data:", "blob:")) or requested == address:
        return []
    asked, own = urlsplit(requested), urlsplit(address)
    if own.scheme.startswith("http") and (asked.scheme, asked.netloc) == (own.scheme, own.netloc):
        return []
    return [f"request: {requested}"]


def overflow(page: Any) -> list[str]:
    """What sticks out at the right of the window, elements that scroll by themselves left out; empty if the page fits."""
    found: list[str] = page.evaluate(
        """() => {
            const wide = document.documentElement.clientWidth;
            const over = document.documentElement.scrollWidth - wide;
            return over <= 0 ? [] : [`${over} px`, ...Array.from(document.querySelectorAll("body *"))
                .filter((e) => e.getBoundingClientRect().right > wide + 1 && !e.closest(".scroll, .view"))
                .map((e) => e.outerHTML.slice(0, 120))];
        }"""
    )
    return found


def contrast(page: Any, selector: str) -> float:
    """The contrast of an element's text with the page's background, by WCAG 2: from 1 to 21."""
    ratio: float = page.eval_on_selector(
        selector,
        """(element) => {
            const light = (colour) => {
                const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
                    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
            };
            const a = light(getComputedStyle(element).color), b = light(getComputedStyle(document.body).backgroundColor);
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        }""",
    )
    return ratio
