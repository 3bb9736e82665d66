"""Makes the pictures of docs/viewing.md: the viewer with generated images, in a headless Chromium.

python docs/view_pictures.py    # needs Playwright and Chromium
"""

from __future__ import annotations

import runpy
import shutil
import sys
import tempfile
import threading
from pathlib import Path

import batchcodec
from batchcodec.view.server import view

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "images"


def main() -> None:
    """Pack, serve, look."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("there is no Chromium")
    with tempfile.TemporaryDirectory() as name:
        images, archive = Path(name) / "images", Path(name) / "images.cpack"
        runpy.run_path(str(ROOT / "benchmarks" / "pictures.py"))["write_pictures"](images)
        batchcodec.pack(images, archive, batchcodec.PackOptions(codec="webp:quality=50"))
        stop, ready, urls = threading.Event(), threading.Event(), list[str]()

        def told(url: str, n_items: int) -> None:
            urls.append(url)
            ready.set()

        server = threading.Thread(target=view, args=(archive, images), kwargs={"ready": told, "stop": stop}, daemon=True)
        server.start()
        if not ready.wait(60):
            sys.exit("the viewer did not start")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 960, "height": 560}, color_scheme="light")
            page.goto(urls[0])
            page.wait_for_selector(".cell img")
            page.select_option("#size", "64")
            page.keyboard.press("Home")
            page.wait_for_timeout(1500)
            page.screenshot(path=TARGET / "viewer-grid.png")
            page.fill("#name", "landscape 004")
            page.wait_for_function("() => document.getElementById('range').textContent === '1 to 1 of 1'")
            page.click("#cell-0")
            page.wait_for_selector("#quality:not([hidden])")
            page.wait_for_timeout(1500)
            page.screenshot(path=TARGET / "viewer-item.png")
            browser.close()
        stop.set()
        server.join()
    print(f"written to {TARGET}")


if __name__ == "__main__":
    main()
