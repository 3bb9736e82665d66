"""The documentation says what is so: help texts, links, the version, and the Python code of the README, which runs."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

from batchcodec import Item
from batchcodec.cli import app
from batchcodec.testing import check_format
from batchcodec.version import __version__

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / ".github").rglob("*.md"))]
COMMANDS: dict[str, Any] = {"batchcodec": (program := get_command(app)), **program.commands}  # type: ignore[attr-defined]

FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """What `#...` may name in a page: its headings, as GitHub spells them."""
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *$", FENCED.sub("", text_of(page)), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        count = found[slug] = found.get(slug, -1) + 1
        names.add(slug if count == 0 else f"{slug}-{count}")
    return names


def broken_links(page: Path) -> Iterator[str]:
    prose = re.sub(r"`[^`\n]*`", "", FENCED.sub("", text_of(page)))
    for target in LINK.findall(prose):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue  # an address elsewhere
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        outside = file != ROOT and ROOT not in file.parents
        if outside or not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_point_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


def test_a_broken_link_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    page = tmp_path / "a.md"
    page.write_text(
        "# A b: `c`\n[x](a.md#a-b-c) [x](#no) [x](no.md) ![x](no.png) [x](../a.md) [x](https://no.example)\n`[x](no)`\n"
    )
    assert list(broken_links(page)) == ["#no", "no.md", "no.png", "../a.md"]


def test_cli_page_is_generated() -> None:
    pinned = re.search(r"^typer==(.+)$", text_of(ROOT / "constraints.txt"), re.MULTILINE)
    assert pinned is not None
    if version("typer") != pinned[1]:
        pytest.skip(f"docs/cli.md has the help texts as typer {pinned[1]} prints them")
    generated = runpy.run_path(str(ROOT / "docs" / "generate_cli.py"))["cli_text"]()
    assert text_of(ROOT / "docs" / "cli.md") == generated, "run python docs/generate_cli.py"


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_and_options_have_help(name: str) -> None:
    command = COMMANDS[name]
    assert (command.help or "").strip()
    for parameter in command.params:
        assert (getattr(parameter, "help", None) or "").strip(), f"{name}: {parameter.opts}"


def test_changelog_starts_with_this_version() -> None:
    headings = re.findall(r"^## +v?(\S+)", text_of(ROOT / "docs" / "changelog.md"), re.MULTILINE)
    assert headings[0] == __version__


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE)


def test_readme_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All Python blocks of the README, one after the other, beside a folder `images` of generated pictures."""
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "benchmarks" / "pictures.py"))["write_pictures"](Path("images"), n_each=2)
    code = blocks(ROOT / "README.md", "python")
    assert len(code) >= 2
    names: dict[str, Any] = {"__name__": "readme"}
    for number, block in enumerate(code, 1):
        exec(compile(block, f"README.md, block {number}", "exec"), names)

    # The format plugin of the README keeps its contract.
    (kind,) = names["register_formats"]()
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 1), dtype=np.uint8)
    (tmp_path / "kit").mkdir()
    check_format(kind, tmp_path / "kit", [Item(f"{i:06}.png", frame) for i, frame in enumerate(frames)])


def test_the_code_of_the_python_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All its blocks, one after the other, beside a folder `images` of generated pictures."""
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "benchmarks" / "pictures.py"))["write_pictures"](Path("images"), n_each=8)
    names: dict[str, Any] = {"__name__": "page"}
    for number, block in enumerate(blocks(ROOT / "docs" / "python.md", "python"), 1):
        exec(compile(block, f"docs/python.md, block {number}", "exec"), names)
    assert number >= 5
    assert sorted(path.name for path in tmp_path.glob("train.*")) == ["train.cpack", "train.npz", "train.parquet", "train.tar"]


def test_readme_entry_point_is_of_our_group() -> None:
    (block,) = blocks(ROOT / "README.md", "toml")
    assert list(tomllib.loads(block)["project"]["entry-points"]) == ["batchcodec"]


def test_results_are_those_of_the_benchmark() -> None:
    """Every row of a results table in the README and in docs/paper.md is a row of the committed run, to the digits shown."""
    rows = json.loads((ROOT / "benchmarks/results/paper.json").read_text())["rows"]
    known = {
        (
            r["name"],
            f"{r['bytes_per_image']:.1f}",
            f"{r['mean_psnr']:.2f}",
            f"{r['mean_ssim']:.4f}",
            f"{r['weight_bytes'] / 1000:.0f}",
        )
        for r in rows
    }
    for page in (ROOT / "README.md", ROOT / "docs/paper.md"):
        table = page.read_text().split("<!-- results -->")[1].split("<!-- /results -->")[0]
        shown = [
            tuple(c.strip(" `*") for c in line.strip().strip("|").split("|")) for line in table.splitlines() if "|" in line
        ]
        assert len(shown) > 6, page
        for name, n_bytes, psnr, ssim, weights in shown[2:]:
            assert (name, n_bytes, psnr, ssim, weights.removesuffix(" kB") or "0") in known, (page, name)


def test_tables_of_the_learned_codec_are_those_of_its_benchmarks() -> None:
    """docs/learned.md has the figures of the committed runs; `python benchmarks/tables.py` writes them."""
    done = subprocess.run([sys.executable, "benchmarks/tables.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or "the tables are not what the results say"
