"""The page that `report --html` writes, as a browser shows it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import RunCli, picture
from PIL import Image

import batchcodec
from browser.pages import WIDTHS, OpenPage, contrast, overflow

HOSTILE = [
    "<script>window.hacked=1</script>.png",
    '"><img src=x onerror="window.hacked=1">.png',
    "</script><script>window.hacked=1</script>.png",
    "javascript:window.hacked=1.png",
    "' onmouseover='window.hacked=1' x='.png",
    "{{constructor.constructor('window.hacked=1')()}}.png",
    "&lt;b&gt;&#x3c;.png",
    "a" * 180 + ".png",
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of one archive against its source, of three, and of one without its source."""
    from typer.testing import CliRunner

    from batchcodec import cli

    folder = tmp_path_factory.mktemp("report")
    source = folder / "source"
    for k, label in enumerate(("bird", "cat", "dog")):
        (source / label).mkdir(parents=True)
        for i in range(3 + k):
            Image.fromarray(picture((40, 56, 3), 10 * k + i)).save(source / label / f"{i}.png")
    Image.fromarray(picture((30, 30, 4), 5)).save(source / "bird" / "alpha.png")
    Image.fromarray(picture((300, 200), 6, "uint16")).save(source / "cat" / "deep.png")
    archives = []
    for quality in (20, 50, 80):
        archives.append(folder / f"q{quality}.cpack")
        batchcodec.pack(source, archives[-1], batchcodec.PackOptions(codec=f"avif:quality={quality},speed=9", on_error="skip"))
    pages = {"one": folder / "one.html", "three": folder / "three.html", "alone": folder / "alone.html"}
    for name, arguments in (
        ("one", [archives[1], "--against", source]),
        ("three", [*archives, "--against", source]),
        ("alone", [archives[1]]),
    ):
        done = CliRunner().invoke(cli.app, ["report", *map(str, arguments), "--html", str(pages[name])], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    return pages


@pytest.mark.parametrize("name", ["one", "three", "alone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_opens_and_fits(name: str, dark: bool, width: int, pages: dict[str, Path], open_page: OpenPage) -> None:
    page = open_page(pages[name], width=width, dark=dark)
    assert overflow(page) == []
    for selector in ("h1", "dt", "td", "caption"):
        assert contrast(page, selector) >= 4.5, selector
    broken = page.evaluate("Array.from(document.images).filter((i) => !i.complete || !i.naturalWidth).length")
    assert broken == 0
    assert page.locator("h1").inner_text()


def test_every_section_is_there(pages: dict[str, Path], open_page: OpenPage) -> None:
    page = open_page(pages["one"])
    expected = ["Bytes", "Contents", "Quality", "Samples", "Codecs and models", "Left out and changed"]
    assert page.locator("h2").all_inner_texts() == expected
    assert page.locator("h3").all_inner_texts() == ["Worst: lowest PSNR", "Median", "Best: highest PSNR"]
    assert "deep.png" in page.locator("section", has_text="Left out and changed").last.inner_text()
    page = open_page(pages["three"])
    assert page.locator("svg.chart circle").count() >= 3
    assert page.locator("nav a").all_inner_texts() == ["q20.cpack", "q50.cpack", "q80.cpack"]


def _column(page: Any, caption: str, column: int) -> list[str]:
    texts: list[str] = page.locator(f"table:has(caption:text('{caption}')) td:nth-child({column})").all_inner_texts()
    return texts


def test_a_table_sorts_by_mouse_and_keyboard(pages: dict[str, Path], open_page: OpenPage) -> None:
    page = open_page(pages["one"])
    assert _column(page, "By label", 1) == ["bird", "cat", "dog"]
    images = page.locator("table:has(caption:text('By label')) th button", has_text="images")
    images.click()
    assert _column(page, "By label", 2) == ["4", "4", "5"]
    images.click()
    assert _column(page, "By label", 2) == ["5", "4", "4"]
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("images")
    page.locator("table:has(caption:text('By label')) th button", has_text="label").focus()
    page.keyboard.press("Enter")
    assert _column(page, "By label", 1) == ["bird", "cat", "dog"]
    page.keyboard.press("Space")
    assert _column(page, "By label", 1) == ["dog", "cat", "bird"]
    assert page.locator("th[aria-sort]").count() == 1
    page.locator("table:has(caption:text('By label')) th button", has_text="mean dB").click()
    decibels = [float(text) for text in _column(page, "By label", 3)]
    assert decibels == sorted(decibels)


def test_the_slider_by_mouse_and_keyboard(pages: dict[str, Path], open_page: OpenPage) -> None:
    page = open_page(pages["one"])
    card = page.locator(".card").first
    slider, over = card.locator("input[type=range]"), card.locator(".over")

    def hidden() -> float:
        style = over.evaluate("(e) => getComputedStyle(e).clipPath")
        parts: list[str] = style.removeprefix("inset(").split()
        return float(parts[1].rstrip("%)"))

    assert hidden() == 100
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert hidden() == 90
    assert slider.get_attribute("aria-valuetext") == "10 % of the original"
    page.keyboard.press("End")
    assert hidden() == 0
    box = slider.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert 40 < hidden() < 60
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.1, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    assert hidden() > 80


def test_zoom_magnifies_and_panes_scroll_together(pages: dict[str, Path], open_page: OpenPage) -> None:
    page = open_page(pages["one"])
    page.locator("select[data-zoom]").select_option("8")
    sizes = page.locator(".card").first.locator("img").evaluate_all("(all) => all.map((i) => i.getBoundingClientRect().width)")
    full = page.locator(".card").first.locator(".stack").first.get_attribute("data-width")
    assert sizes == [8 * int(full)] * 4
    assert overflow(page) == []
    views = page.locator(".card").first.locator(".view")
    views.first.evaluate("(v) => v.scrollTo(50, 20)")
    page.wait_for_function(
        "() => [...document.querySelector('.card').querySelectorAll('.view')].every((view) => view.scrollLeft === 50)"
    )
    views.nth(1).focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('.card .view').scrollLeft > 50")


def test_the_theme_is_chosen_and_kept(pages: dict[str, Path], open_page: OpenPage) -> None:
    page = open_page(pages["one"])
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.locator("#theme").click()
    dark = page.evaluate(background)
    assert dark != light
    assert page.locator("#theme").inner_text() == "Light"
    page.reload()
    assert page.evaluate(background) == dark
    page.emulate_media(media="print")
    assert page.evaluate(background) == light  # paper is white


def test_everything_that_acts_can_be_reached_by_the_keyboard(pages: dict[str, Path], open_page: OpenPage) -> None:
    page = open_page(pages["one"])
    wanted = page.locator("button:visible, select:visible, input:visible").count()
    reached = set()
    for _ in range(4 * wanted):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "() => { const e = document.activeElement; return e.matches('button, select, input') "
                "? Array.from(document.querySelectorAll('button, select, input')).indexOf(e) : -1; }"
            )
        )
        if len(reached - {-1}) == wanted:
            break
    assert len(reached - {-1}) == wanted


def test_it_prints(pages: dict[str, Path], open_page: OpenPage) -> None:
    page = open_page(pages["one"], dark=True)
    document = page.pdf(format="A4")
    assert document.startswith(b"%PDF")
    assert len(document) > 20_000


@pytest.mark.parametrize("width", WIDTHS)
def test_hostile_names_do_nothing(width: int, tmp_path: Path, invoke: RunCli, open_page: OpenPage) -> None:
    """In names, labels, notes, codec texts and what was skipped; written by a stranger, as no reader would pass them."""
    from batchcodec_plugins.codecs import StoreCodec

    from batchcodec.archive import digest
    from batchcodec.archive.directory import Row
    from batchcodec.archive.wire import CodecRecord, GroupHead
    from batchcodec.archive.writer import ArchiveWriter
    from batchcodec.types import GroupSpec

    names = [*HOSTILE, "bidi \u202egnp.exe", "\x1b[2J\x00nul"]
    images = np.stack([picture((24, 24, 1), i) for i in range(len(names))])
    archive = tmp_path / f"{HOSTILE[1].replace('/', '')}.cpack"
    with archive.open("wb") as file:
        writer = ArchiveWriter(file)
        writer.add_meta(
            {
                "notes": dict.fromkeys(HOSTILE, 1),
                "skipped": [{"item": name, "reason": name} for name in HOSTILE],
                "codecs": dict.fromkeys(HOSTILE, 1),
                "created_by": HOSTILE[0],
                "mean_psnr": HOSTILE[1],
            }
        )
        codec = StoreCodec()
        record = CodecRecord("store", codec.get_config(), b"", True, None)
        head = GroupHead(writer.add_codec(record), GroupSpec.of(images), digest.digest(images), ())
        rows = [Row(i, name, name, {}) for i, name in enumerate(names)]
        writer.add_group(head, codec.encode(images), rows)
        writer.finish()
    other = tmp_path / "other.cpack"
    shutil.copy(archive, other)
    source = tmp_path / "source"
    for name, image in zip(HOSTILE, images, strict=False):  # the other names are missing there
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0] // 2).save(source / name)
    commands = {
        "alone": [archive],
        "two": [archive, other],
        "against": [archive, "--against", source],
        "both": [archive, other, "--against", source],
    }
    for name, arguments in commands.items():
        target = tmp_path / f"{name}.html"
        done = invoke("report", *arguments, "--html", target, "-q")
        assert done.rc == 0, done
        text = target.read_text(encoding="utf-8")
        assert not {"\u202e", "\x1b", "\x00"} & set(text)
        page = open_page(target, width=width)
        page.locator("body").hover()
        assert page.evaluate("window.hacked") is None
        assert page.evaluate("document.querySelectorAll('img[src=x], [onerror], [onmouseover]').length") == 0
        assert overflow(page) == []
        assert HOSTILE[0] in page.locator("body").inner_text()
        assert "\\u202e" in page.locator("body").inner_text()


def test_data_for_scripts_cannot_end_its_element(tmp_path: Path, open_page: OpenPage) -> None:
    from batchcodec.report.page import data_block, escaped, page

    value = {"names": [*HOSTILE, "<!--<script>", "\u2028\u2029", "]]>"]}
    script = "document.title = JSON.stringify(JSON.parse(document.getElementById('d').textContent));"
    path = tmp_path / "data.html"
    path.write_text(page("x", data_block("d", value) + escaped(HOSTILE[0]), script=script), encoding="utf-8")
    opened = open_page(path)
    import json

    assert json.loads(opened.evaluate("document.title")) == value
    assert opened.evaluate("window.hacked") is None


def test_a_script_that_is_not_the_pages_own_is_blocked(tmp_path: Path, browser: Any) -> None:
    """The policy is what stands behind escaping: here it alone stops a script."""
    from batchcodec.report.page import Html, page

    path = tmp_path / "bad.html"
    body = Html("<script>window.hacked=1</script><img src=x onerror='window.hacked=2'><p>text</p>")
    path.write_text(page("x", body), encoding="utf-8")
    opened = browser.new_page()
    refused: list[str] = []
    opened.on("console", lambda message: refused.append(message.text))
    opened.goto(path.as_uri())
    assert opened.evaluate("window.hacked") is None
    assert any("Content Security Policy" in text for text in refused)
    opened.close()
