"""The page of the viewer in a real browser: what is seen, by mouse and keys, and that nothing is asked of anybody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser.pages import WIDTHS, OpenPage, contrast, overflow

from .conftest import HOSTILE, Serve, Site, serving

Page = Any
NARROW = {"width": 375, "height": 720}


def settled(page: Page) -> None:
    """Wait until every cell has its picture, or says that there is none."""
    page.wait_for_function(
        """() => { const frames = [...document.querySelectorAll('.frame')];
        return frames.length && frames.every((f) => f.classList.contains('damaged')
        || (f.querySelector('img')?.complete && f.querySelector('img').naturalWidth)); }"""
    )


def seen(page: Page) -> dict[int, str]:
    """Position and caption of the cells that are in view."""
    cells: list[Any] = page.eval_on_selector_all(
        ".cell",
        """(cells) => { const { top, bottom } = document.getElementById('grid').getBoundingClientRect();
        const place = (cell) => cell.getBoundingClientRect();
        return cells.filter((c) => place(c).bottom > top + 5 && place(c).top < bottom - 5)
          .map((c) => [Number(c.dataset.position), c.querySelector('.caption').textContent]); }""",
    )
    return dict(cells)


def first_pixels(page: Page) -> dict[int, int]:
    """Position and red value of the first pixel of each picture."""
    found: list[Any] = page.eval_on_selector_all(
        ".cell",
        """(cells) => cells.map((cell) => { const image = cell.querySelector('img');
        const canvas = document.createElement('canvas'); canvas.width = canvas.height = 1;
        const pen = canvas.getContext('2d'); pen.drawImage(image, 0, 0);
        return [Number(cell.dataset.position), pen.getImageData(0, 0, 1, 1).data[0]]; })""",
    )
    return dict(found)


def in_range(page: Page) -> str:
    text: str = page.text_content("#range")
    return text


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_grid_shows_images_and_nothing_sticks_out(width: int, dark: bool, site: Site, open_page: OpenPage) -> None:
    page = open_page(site.url, width=width, dark=dark)
    settled(page)
    assert page.title() == "zoo.cpack - batchcodec"
    assert page.text_content("#archive") == "zoo.cpack"
    assert seen(page)[0] == "0.png"
    assert overflow(page) == []
    assert contrast(page, "#archive") > 7
    assert contrast(page, ".caption") > 4.5
    outside = page.evaluate(
        """() => [...document.querySelectorAll('header *, .cell')].filter((e) => { const r = e.getBoundingClientRect();
        return r.width && (r.left < 0 || r.right > innerWidth); }).map((e) => e.outerHTML)"""
    )
    assert outside == []
    page.click("#cell-0")
    page.wait_for_selector("#fields dd")
    assert overflow(page) == []
    assert page.locator("dialog :is(button, figure, dl)").evaluate_all(
        "(parts) => parts.every((e) => e.getBoundingClientRect().right <= innerWidth && e.getBoundingClientRect().left >= 0)"
    )


def test_the_middle_and_the_end_of_many(serve: Serve, many: Path, open_page: OpenPage) -> None:
    """In one column the grid would be 36 million pixels high, which is more than a browser lets an element be."""
    page = open_page(serve(many).url, **NARROW)
    page.select_option("#size", "208")
    settled(page)
    assert page.evaluate("document.querySelector('#grid > div').offsetHeight") == 15_000_000
    for part in (0.5, 0.123, 1.0, 0.0):
        page.evaluate(f"document.getElementById('grid').scrollTop = {part} * 15e6")
        page.wait_for_timeout(150)
        settled(page)
        cells = seen(page)
        assert len(cells) < 6
        assert page.locator(".cell").count() < 8
        assert all(caption == f"item-{position:06}" for position, caption in cells.items())
        assert abs(min(cells) - part * 150_000) < 10
        assert all(value == position % 251 for position, value in first_pixels(page).items())
    assert in_range(page).startswith("#0 to ")


def test_the_wheel_moves_by_true_pixels_where_the_bar_cannot(serve: Serve, many: Path, open_page: OpenPage) -> None:
    page = open_page(serve(many).url, **NARROW)
    page.select_option("#size", "208")
    page.evaluate("document.getElementById('grid').scrollTop = 7.5e6")
    page.wait_for_timeout(150)
    before = min(seen(page))
    page.mouse.move(180, 500)
    page.mouse.wheel(0, 238)
    page.wait_for_timeout(150)
    assert min(seen(page)) == before + 1
    page.mouse.wheel(0, -476)
    page.wait_for_timeout(150)
    assert min(seen(page)) == before - 1
    settled(page)


def test_keys_move_through_many(serve: Serve, many: Path, open_page: OpenPage) -> None:
    page = open_page(serve(many).url)
    settled(page)
    page.keyboard.press("End")
    settled(page)
    assert max(seen(page)) == 149_999
    assert page.get_attribute(".cell.selected", "data-position") == "149999"
    columns = page.evaluate("new Set([...document.querySelectorAll('.cell')].map((c) => c.getBoundingClientRect().left)).size")
    for key, position in [
        ("ArrowUp", 149_999 - columns),
        ("ArrowLeft", 149_998 - columns),
        ("ArrowDown", 149_998),
        ("Home", 0),
        ("ArrowLeft", 0),
        ("ArrowRight", 1),
    ]:
        page.keyboard.press(key)
        assert page.get_attribute(".cell.selected", "data-position") == str(position), key
    page.keyboard.press("PageDown")
    assert min(seen(page)) > 0


def test_search_labels_and_numbers(serve: Serve, many: Path, open_page: OpenPage) -> None:
    names = [f"item-{number:06}" for number in range(150_000)]
    page = open_page(serve(many).url)
    page.keyboard.press("/")
    page.keyboard.type("0123")
    wanted = [name for name in names if "0123" in name]
    page.wait_for_function(f"() => document.getElementById('range').textContent.endsWith(' of {len(wanted)}')")
    settled(page)
    assert seen(page) == dict(enumerate(wanted[: len(seen(page))]))
    page.select_option("#label", index=3)
    wanted = [name for name in names[100_000:] if "0123" in name]
    page.wait_for_function(f"() => document.getElementById('range').textContent === '1 to {len(wanted)} of {len(wanted)}'")
    settled(page)
    assert seen(page) == dict(enumerate(wanted))
    page.fill("#name", "*99")
    page.wait_for_function("() => document.getElementById('range').textContent.endsWith(' of 500')")
    page.wait_for_function("() => document.querySelectorAll('.cell')[1].textContent === 'item-100199'")
    page.fill("#name", "nowhere")
    page.wait_for_selector(".nothing")
    page.fill("#name", "#77777")
    page.keyboard.press("Enter")
    page.wait_for_selector("#cell-77777.selected")
    settled(page)
    assert seen(page)[77_777] == "item-077777"
    assert in_range(page).endswith(" of 150,000")
    assert page.locator(".nothing").count() == 0
    assert page.input_value("#label") == ""


def test_an_item_by_keys(serve: Serve, rgb_archive: tuple[Path, Path], open_page: OpenPage) -> None:
    source, archive = rgb_archive
    page = open_page(serve(archive, source).url)
    settled(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("#quality:not([hidden])")
    assert page.text_content("#detail-name") == "cat/1.png"
    assert page.text_content("#quality").startswith("PSNR ")
    facts = page.eval_on_selector_all("#fields dd", "(fields) => fields.map((field) => field.textContent)")
    assert {"#1", "cat/1.png", "cat", "32x24 RGB"} <= set(facts)
    captions = page.eval_on_selector_all("figcaption", "(c) => c.map((e) => e.firstChild.textContent)")
    assert captions == ["decoded", "original", "difference"]
    page.wait_for_function("() => [...document.querySelectorAll('.stage img')].every((i) => i.naturalWidth === 32)")
    width = page.evaluate("document.querySelector('.stage img').clientWidth")
    assert width % 32 == 0
    page.keyboard.press("+")
    assert page.evaluate("document.querySelector('.stage img').clientWidth") > width
    page.keyboard.press("0")
    assert page.evaluate("document.querySelector('.stage img').clientWidth") == width
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.getElementById('detail-name').textContent === 'cat/2.png'")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => document.getElementById('detail-name').textContent === 'cat/1.png'")
    with page.expect_response(lambda response: "kind=difference" in response.url and "gain=64" in response.url):
        page.select_option("figcaption select", "64")
    page.keyboard.press("Escape")
    assert not page.evaluate("document.getElementById('detail').open")
    assert page.evaluate("document.activeElement.id") == "grid"


@pytest.mark.parametrize("width", WIDTHS)
def test_a_hostile_name_is_text(width: int, site: Site, open_page: OpenPage) -> None:
    page = open_page(site.url, width=width)
    page.fill("#name", "onerror")
    page.wait_for_function("() => document.getElementById('range').textContent === '1 to 1 of 1'")
    settled(page)
    shown = HOSTILE.replace("\u202e", "\\u{202e}")
    assert seen(page)[0].startswith("<")
    assert shown in page.get_attribute(".cell", "title")
    page.click(".cell")
    page.wait_for_selector("#fields dd")
    assert page.text_content("#detail-name") == f"dog/{shown}"
    assert page.locator("img").count() == 2  # the small picture and the large one
    assert page.title() == "zoo.cpack - batchcodec"
    assert overflow(page) == []


def test_a_damaged_group_is_shown_as_such(serve: Serve, damaged: Path, open_page: OpenPage) -> None:
    page = open_page(serve(damaged).url, errors=True)  # the browser itself says that a picture is missing
    settled(page)
    assert page.locator(".frame.damaged").count() == 8
    assert page.locator(".frame img").count() == 13
    page.click("#cell-0")
    page.wait_for_selector(".stage p")
    assert "checksum" in page.text_content(".stage p")
    assert page.text_content("#detail-name") == "cat/0.png"


def test_a_server_that_is_gone_is_told_of(zoo: tuple[Path, Path], open_page: OpenPage) -> None:
    with serving(zoo[1]) as site:
        page = open_page(site.url, errors=True)
        settled(page)
    page.fill("#name", "cat")
    page.wait_for_selector("#trouble:not([hidden])")
    assert "batchcodec view" in page.text_content("#trouble")
