"""Makes the pictures of reports in `images/`, from pictures that are generated here: `python docs/screenshots.py`.

Needs Playwright (`.[dev]`) and Chromium (`apt-get install chromium`).
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from typer.testing import CliRunner

from batchcodec import PackOptions, pack
from batchcodec.cli import app

ROOT = Path(__file__).parent.parent
IMAGES = Path(__file__).with_name("images")
MAX_BYTES = 300_000


def command(*arguments: str | Path) -> None:
    """A command of batchcodec, which must end well."""
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    if done.exit_code:
        sys.exit(f"{arguments} failed: {done.output}")


def shoot(browser: Any, page: Path, target: Path, *, dark: bool, height: int, start: str = "header") -> None:
    """A picture of a page from an element downwards, in 256 colours."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, color_scheme="dark" if dark else "light")
    opened = context.new_page()
    opened.goto(page.absolute().as_uri())
    top = opened.locator(start).first.bounding_box()["y"]
    slider = opened.locator("input[type=range]").first
    slider.fill("50")  # so that one can see what it does
    clip = {"x": 0, "y": top, "width": 1200, "height": height}
    picture = Image.open(io.BytesIO(opened.screenshot(full_page=True, clip=clip))).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)
    context.close()
    n_bytes = target.stat().st_size
    print(f"{target.relative_to(ROOT)}: {n_bytes:,} bytes")
    if n_bytes > MAX_BYTES:
        sys.exit(f"{target} has more than {MAX_BYTES:,} bytes: make it smaller")


def main() -> None:
    """Write the pictures."""
    from playwright.sync_api import sync_playwright

    sys.path.insert(0, str(ROOT / "benchmarks"))
    from pictures import write_pictures

    chromium = shutil.which("chromium") or sys.exit("Chromium is not installed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as made, sync_playwright() as playwright:
        folder = Path(made)
        images = folder / "images"
        write_pictures(images)
        archives = []
        for name, codec in (("avif-60", "avif:quality=60"), ("avif-80", "avif:quality=80"), ("webp-60", "webp:quality=60")):
            archives.append(folder / f"{name}.cpack")
            pack(images, archives[-1], PackOptions(codec=f"{codec},mosaic=true"))
        one, three = folder / "one.html", folder / "three.html"
        source = images.relative_to(folder)
        os.chdir(folder)  # so that the pages name no folder of this machine
        command("report", archives[0].name, "--against", source, "--html", one)
        command("report", *(archive.name for archive in archives), "--against", source, "--html", three)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        shoot(browser, one, IMAGES / "report.png", dark=False, height=1180)
        shoot(browser, one, IMAGES / "report-samples.png", dark=False, height=795, start="section:has(.samples)")
        shoot(browser, three, IMAGES / "report-archives.png", dark=True, height=850)
        browser.close()


if __name__ == "__main__":
    main()
