"""Plugins: each loads alone, a broken one is reported and breaks nothing, and an id belongs to one plugin."""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest
from helpers import RunCli, install_fake

from batchcodec.errors import OptionError, PluginConflictError, UnknownCodecError, UnknownFormatError
from batchcodec.registry import Registry, parse_codec, registry

GOOD = """
from batchcodec_plugins.codecs import StoreCodec
from batchcodec_plugins.formats import NpyFormat
from batchcodec import hookimpl

class Mine(StoreCodec):
    codec_id = "mine"

class MineFormat(NpyFormat):
    format_id = "mine"
    suffixes = (".mine",)

    @classmethod
    def matches(cls, path):
        return path.suffix == ".mine"

@hookimpl
def register_codecs():
    return [Mine]

@hookimpl
def register_formats():
    return [MineFormat]
"""

BROKEN = {
    "import error": ("import a_module_that_is_missing", "ModuleNotFoundError: No module named 'a_module_that_is_missing'"),
    "syntax error": ("def", "SyntaxError"),
    "exit at import": ("raise SystemExit(3)", "SystemExit: 3"),
    "misspelt hook": (GOOD.replace("register_codecs", "register_codec"), "PluginValidationError: .*register_codec"),
    "too many arguments": (GOOD.replace("register_codecs()", "register_codecs(app)"), "PluginValidationError"),
    "hook that raises": (GOOD.replace("return [MineFormat]", "raise RuntimeError('no\\nway')"), "RuntimeError: no$"),
    "hook that returns nothing": (GOOD.replace("return [Mine]", "pass"), "TypeError"),
    "hook that returns an instance": (GOOD.replace("return [Mine]", "return [Mine()]"), "TypeError: register_codecs returned"),
    "codec without id": (GOOD.replace("return [Mine]", "from batchcodec import Codec; return [Codec]"), "AttributeError"),
    "format as codec": (GOOD.replace("return [Mine]", "return [MineFormat]"), "expected subclasses of Codec"),
}


class _Point:
    """Makes entry points of modules that are written for one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modules: list[str] = []

    def __call__(self, name: str, source: str, distribution: str | None = None) -> EntryPoint:
        module = f"fake_{name.replace(' ', '_')}"
        self.modules.append(module)
        install_fake(self.folder, distribution or f"dist-{name.replace(' ', '-')}", name, module, source)
        found = [d for d in Distribution.discover(path=[str(self.folder)]) if any(e.value == module for e in d.entry_points)]
        return next(e for e in found[0].entry_points if e.value == module)


@pytest.fixture
def point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(tmp_path / "site")
    made = _Point(tmp_path / "site")
    yield made
    for module in made.modules:
        sys.modules.pop(module, None)


def _own() -> list[EntryPoint]:
    return [e for e in entry_points(group="batchcodec") if e.dist is not None and e.dist.name == "batchcodec"]


def test_a_plugin_of_another_distribution(point: _Point) -> None:
    found = Registry([*_own(), point("good", GOOD)])
    assert found.codec_class("mine").codec_id == "mine"
    assert found.format_class("mine").format_id == "mine"
    info = next(p for p in found.plugins if p.name == "good")
    assert (info.distribution, info.version, info.codecs, info.formats, info.error) == (
        "dist-good",
        "1.0",
        ["mine"],
        ["mine"],
        None,
    )
    assert found.record(found.make_codec("mine")).distribution == "dist-good"


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_breaks_nothing_else(kind: str, point: _Point) -> None:
    source, message = BROKEN[kind]
    found = Registry([point("aaa", source), *_own(), point("zzz", GOOD)])
    broken = next(p for p in found.plugins if p.name == "aaa")
    assert broken.error is not None
    assert "\n" not in broken.error
    assert re.search(message, broken.error), broken.error
    assert (broken.codecs, broken.formats) == ([], [])
    assert all(p.error is None for p in found.plugins if p.name != "aaa")
    assert "mine" in found.codec_ids()
    assert found.conflicts() == []  # what the broken one gave before it failed is not kept
    assert found.codec_class("jpeg").codec_id == "jpeg"


def test_one_module_behind_two_entry_points(point: _Point) -> None:
    first = point("good", GOOD)
    second = EntryPoint("again", first.value, first.group)
    found = Registry([first, second])
    assert [p.error is None for p in sorted(found.plugins, key=lambda p: p.name)] == [True, False]
    assert found.codec_class("mine").codec_id == "mine"
    assert len(found.manager.get_plugins()) == 1


def test_an_id_of_two_plugins_belongs_to_neither(point: _Point, tmp_path: Path) -> None:
    found = Registry([*_own(), point("one", GOOD), point("two", GOOD)])
    for lookup in (found.codec_class, found.format_class):
        with pytest.raises(PluginConflictError) as caught:
            lookup("mine")
        assert "dist-one (one)" in str(caught.value)
        assert "dist-two (two)" in str(caught.value)
        assert caught.value.exit_code == 6
    assert len(found.conflicts()) == 2
    assert found.make_codec("zstd").codec_id == "zstd"
    # All other formats are still recognised, also by path and by the name of a target.
    assert found.format_of(tmp_path).format_id == "folder"
    assert found.format_for_target(tmp_path / "x.npz").format_id == "npz"
    (tmp_path / "x.mine").touch()
    with pytest.raises(UnknownFormatError):
        found.format_of(tmp_path / "x.mine")


def test_a_format_whose_matches_raises_breaks_nothing_else(point: _Point, tmp_path: Path) -> None:
    source = GOOD.replace('return path.suffix == ".mine"', "raise OSError")
    assert Registry([*_own(), point("bad", source)]).format_of(tmp_path).format_id == "folder"


def test_two_formats_that_match_are_both_named(point: _Point, tmp_path: Path) -> None:
    source = GOOD.replace('return path.suffix == ".mine"', "return True")
    found = Registry([*_own(), point("greedy", source)])
    with pytest.raises(UnknownFormatError, match=r"several formats match \(folder, mine\); choose one with --format"):
        found.format_of(tmp_path)
    assert found.format_of(tmp_path, format_id="folder").format_id == "folder"


def test_plugins_can_be_chosen(point: _Point) -> None:
    points = [*_own(), point("one", GOOD), point("two", BROKEN["import error"][0])]
    assert {p.name for p in Registry(points, allowed=set()).plugins} == {"codecs", "formats", "learned"}
    assert {p.name for p in Registry(points, allowed={"one"}).plugins} == {"codecs", "formats", "learned", "one"}


def test_unknown_ids_name_the_known_ones() -> None:
    with pytest.raises(UnknownCodecError, match=r"unknown codec 'vvc'; known: .*jpeg") as caught:
        registry().codec_class("vvc")
    assert caught.value.fields["distribution"] is None
    with pytest.raises(UnknownCodecError, match="pip install some-dist"):
        registry().codec_class("vvc", "some-dist")
    with pytest.raises(OptionError, match=r"one of folder, idx"):
        registry().format_class("zarr")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("jpeg", ("jpeg", {})),
        ("jpeg:", ("jpeg", {})),
        ("jpeg:quality=80", ("jpeg", {"quality": 80})),
        ("a-1:x=1.5,y=true,z=FALSE,t=4:4:4", ("a-1", {"x": 1.5, "y": True, "z": False, "t": "4:4:4"})),
        ("a:some-key= b , c = d=e", ("a", {"some_key": "b", "c": "d=e"})),
        ("a:x=", ("a", {"x": ""})),
    ],
)
def test_parse_codec(text: str, expected: tuple[str, dict[str, Any]]) -> None:
    assert parse_codec(text) == expected


@pytest.mark.parametrize("text", ["a:x", "a:=1", "a:x=1,x=2", "a:x=1, x=2", "a:x-y=1,x_y=2", "a: =1"])
def test_parse_codec_refuses(text: str) -> None:
    with pytest.raises(OptionError):
        parse_codec(text)


def test_options_that_a_codec_lacks() -> None:
    with pytest.raises(OptionError, match=r"colour.*quality, subsampling, mosaic"):
        registry().make_codec("jpeg:colour=1")
    with pytest.raises(OptionError, match="no option at all"):
        registry().make_codec("store:x=1")


def test_options_that_a_constructor_refuses_by_itself(point: _Point) -> None:
    source = GOOD.replace("    codec_id", "    def __init__(self, *, level=1): pass\n    codec_id", 1)
    with pytest.raises(OptionError, match="only options that it has"):
        Registry([point("plain", source)]).make_codec("mine:speed=1")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("out", "folder"), ("a.npz", "npz"), ("a.NPY", "npy"), ("a.tar", "tar"), ("a.tar.gz", "tar"), ("dir.v1/out", "folder")],
)
def test_format_for_a_target(name: str, expected: str, tmp_path: Path) -> None:
    assert registry().format_for_target(tmp_path / name).format_id == expected


def test_the_command_line_shows_broken_and_conflicting_plugins(run_cli: RunCli, tmp_path: Path) -> None:
    install_fake(tmp_path, "dist-bad", "bad", "fake_bad", "import a_module_that_is_missing")
    install_fake(tmp_path, "dist-jpeg", "other", "fake_jpeg", GOOD.replace('"mine"', '"jpeg"', 1))
    env = {"PYTHONPATH": str(tmp_path)}
    done = run_cli("plugins", "--json", env=env)
    assert done.rc == 0
    by_name = {p["name"]: p for p in done.json["plugins"]}
    assert by_name["bad"]["error"] == "ModuleNotFoundError: No module named 'a_module_that_is_missing'"
    assert by_name["formats"]["formats"] == ["folder", "npy", "npz", "idx", "tar", "parquet"]
    assert by_name["formats"]["distribution"] == "batchcodec"
    assert len(done.json["conflicts"]) == 1
    assert "dist-jpeg (other)" in done.json["conflicts"][0]
    assert len(done.stderr.splitlines()) == 2
    assert all(line.startswith("warning: ") for line in done.stderr.splitlines())
    text = run_cli("plugins", env=env)
    assert "FAILED: ModuleNotFoundError" in text.stdout
    assert "CONFLICT: two plugins provide the codec 'jpeg'" in text.stdout
    chosen = run_cli("plugins", "--json", env=env | {"BATCHCODEC_PLUGINS": ""})
    assert chosen.stderr == ""
    assert {p["name"] for p in chosen.json["plugins"]} == {"codecs", "formats", "learned"}


def test_a_plugin_adds_a_command_and_one_that_fails_is_reported(run_cli: RunCli, tmp_path: Path) -> None:
    source = """
from batchcodec import BatchcodecError, hookimpl
from batchcodec.errors import InputError

@hookimpl
def register_commands(app):
    @app.command()
    def greet(name: str) -> None:
        if name == "nobody":
            raise InputError(name, "nobody is there")
        print("hello", name)
"""
    install_fake(tmp_path, "dist-greet", "greet", "fake_greet", source)
    install_fake(tmp_path, "dist-angry", "angry", "fake_angry", source.replace("@app", "1 / 0\n    @app"))
    env = {"PYTHONPATH": str(tmp_path)}
    done = run_cli("greet", "world", env=env)
    assert (done.rc, done.stdout) == (0, "hello world\n")
    assert "dist-angry:angry could not add its commands: ZeroDivisionError" in done.stderr
    failed = run_cli("greet", "nobody", env=env)
    assert failed.rc == 3
    assert "error: nobody: nobody is there" in failed.stderr
