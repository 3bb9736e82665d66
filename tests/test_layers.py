"""Who may import whom: a walk over the imports of all modules (`ast`, so also those inside of functions)."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from pathlib import Path

import pytest

import batchcodec
from batchcodec import errors

ROOT = Path(batchcodec.__file__).parent
PLUGINS = ROOT.parent / "plugins"

FOUNDATION = {"errors", "types", "version"}
CONTRACTS = FOUNDATION | {"codec", "dataset"}
ARCHIVE = {
    "archive",
    *(f"archive.{name}" for name in ("wire", "directory", "columns", "digest", "index", "taken", "writer", "blocks")),
}
OPEN_ARCHIVE = ARCHIVE | {
    "parallel",
    *(f"archive.{name}" for name in ("cache", "gathering", "groups", "items", "opened", "reader")),
}

ALLOWED: dict[str, set[str]] = {
    "version": set(),
    "errors": set(),
    "types": set(),
    "codec": {"errors", "types"},
    "dataset": {"errors", "types"},
    "hookspecs": {"codec", "dataset"},
    "registry": CONTRACTS | {"hookspecs", "archive.wire"},
    "opening": FOUNDATION | {"archive.reader", "dataset", "registry", "unpack"},
    "atomic": {"disk", "errors"},
    "disk": set(),
    "journal": set(),
    "machine": set(),
    "metrics": {"metrics.errors", "metrics.similarity"},
    "metrics.errors": {"types"},
    "metrics.similarity": {"metrics", "metrics._kernels", "metrics.errors", "types"},
    "metrics._kernels": {"entropy._jit"},
    "parallel": {"machine"},
    "names": {"errors", "archive.directory"},  # the longest name that a directory holds
    "packing.grouping": {"archive.wire", "codec", "types"},
    "packing.pipeline": set(),
    "packing.reading": FOUNDATION | {"archive.wire", "names", "preprocess"},
    "packing.report": {"archive.writer"},
    "preprocess": FOUNDATION,
    "selection": {"errors", "archive.reader"},
    "copying.stored": {"errors", "atomic", "checking.verify", "archive.reader"} | ARCHIVE,
    "copying.parts": {"errors", "copying.stored", "archive.wire", "archive.writer"},
    "testing": CONTRACTS,
    "archive": set(),
    "archive.wire": FOUNDATION | ARCHIVE,
    "archive.directory": FOUNDATION | ARCHIVE,
    "archive.digest": FOUNDATION | ARCHIVE,
    "archive.taken": set(),
    "archive.writer": FOUNDATION | ARCHIVE,
    "archive.blocks": FOUNDATION | ARCHIVE,
    "archive.index": {"archive.wire"},
    "archive.columns": {"types", "archive.wire", "archive.directory"},
    "archive.cache": {"types"},
    "archive.groups": FOUNDATION | ARCHIVE | {"archive.cache", "codec"},  # `Codec` as a type only
    "archive.items": FOUNDATION | ARCHIVE,
    "archive.gathering": FOUNDATION | {"archive.groups", "archive.items", "parallel"},
    "archive.opened": FOUNDATION | OPEN_ARCHIVE - {"archive.reader"} | {"machine"},
    "archive.reader": FOUNDATION | OPEN_ARCHIVE,
    "archive.found": {"archive.wire"},
    "archive.scan": {"archive.found", "archive.index", "archive.wire"},
    "archive.recovery": {"types"} | {f"archive.{m}" for m in ("columns", "directory", "found", "scan", "wire")},
    "archive.copying": {"archive.found", "archive.scan", "archive.wire"},
    "display": {"types"},
    "report.item": FOUNDATION | {"archive.reader", "dataset", "registry"},
    "report.item_text": {"display", "preprocess", "types", "report.item", "report.text"},
    "view": set(),
    "view.catalogue": {"archive.reader"},
    "view.thumbnails": {"display", "errors", "parallel", "types", "archive.reader"},
    "view.pair": {"display", "metrics", "types", "archive.reader", "report.originals"},
    "view.pages": {"display", "errors", "registry", "archive.reader"}
    | {f"report.{m}" for m in ("item", "originals", "page")}
    | {f"view.{m}" for m in ("catalogue", "pair", "thumbnails")},
    "view.server": {"errors", "opening", "view.pages"},
    "sampling": CONTRACTS | {"registry"},
    "comparing.curves": {"errors"},
    "comparing.series": {"errors", "registry"},
    "comparing.measuring": CONTRACTS | {"comparing.curves", "metrics", "opening", "pack", "preprocess", "registry"},
    "comparing.kept": {"disk", "errors", "journal", "comparing.curves"},
    "planning.estimate": set(),
    "planning.order": set(),
    "planning.survey": {"errors", "types", "preprocess", "planning.order"},
    "planning.frame": {"codec", "types", "packing.grouping"} | {f"planning.{m}" for m in ("estimate", "order", "survey")},
    "planning.goal": {"planning.forecast"},
    "checking.findings": set(),
    "checking.decoding": {"codec", "errors", "types", "checking.findings", "registry"}
    | {f"archive.{m}" for m in ("digest", "recovery", "scan")},
}
"""What each module of batchcodec may import of batchcodec."""

COMMAND_LINE = {
    "cli",
    *(f"cli_{name}" for name in ("bench", "care", "combine", "compare", "options", "plan", "report", "train", "view")),
    "console",
}


def _modules(root: Path) -> dict[str, Path]:
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _imports(path: Path) -> set[str]:
    """Full names of what a module imports: of `from a import b` both `a` and `a.b`; relative ones begin with a dot."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


OWN = _modules(ROOT)


def _own_imports(module: str) -> set[str]:
    """Modules of batchcodec that a module of batchcodec imports, without the `batchcodec.` before them."""
    found = {name.removeprefix("batchcodec.") for name in _imports(OWN[module]) if name.startswith("batchcodec.")}
    return {name for name in found if name in OWN}


def _outermost(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("module", sorted(ALLOWED))
def test_imports_run_one_way(module: str) -> None:
    assert _own_imports(module) - ALLOWED[module] <= {"archive"}


@pytest.mark.parametrize("module", [m for m in OWN if _outermost(m) == "archive"])
def test_the_archive_knows_no_codec_and_no_plugin(module: str) -> None:
    imported = _own_imports(module)
    others = {"errors", "types", "codec", "version", "atomic", "machine", "parallel"}
    assert not {_outermost(m) for m in imported} - {"archive", *others}
    assert "codec" not in imported or module == "archive.groups"
    assert not any(name.startswith("batchcodec_plugins") for name in _imports(OWN[module]))


@pytest.mark.parametrize("module", [m for m in OWN if _outermost(m) == "entropy"])
def test_entropy_imports_only_errors(module: str) -> None:
    assert {m for m in _own_imports(module) if _outermost(m) != "entropy"} <= {"errors"}


@pytest.mark.parametrize("module", [m for m in OWN if _outermost(m) not in ("learned", "torch")])
def test_torch_is_imported_only_inside_learned_and_by_the_loaders(module: str) -> None:
    assert not {name for name in _imports(OWN[module]) if _outermost(name) in ("torch", "torchvision")}


def _imports_at_once(path: Path) -> set[str]:
    """Full names of what importing a module imports: not what is in functions, and not what is for the type checker."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("module", ["cli", "learned.plugin", "learned.shipped", "reference", "report.info", "testing"])
def test_what_must_start_fast_imports_no_torch(module: str) -> None:
    """Also not through others: so `learned/hyperprior/codec.py` imports where it runs what imports torch at once."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        found = _imports_at_once(OWN[name])
        assert not {n for n in found if _outermost(n) in ("torch", "torchvision")}, name
        waiting += [own for n in found if (own := n.removeprefix("batchcodec.")) in OWN and n != own]
    assert len(seen) > 3


@pytest.mark.parametrize("module", list(OWN))
def test_batchcodec_never_imports_its_plugins(module: str) -> None:
    assert not {name for name in _imports(OWN[module]) if _outermost(name) == "batchcodec_plugins"}


@pytest.mark.parametrize("module", list(OWN))
def test_nothing_imports_the_command_line(module: str) -> None:
    imported = _own_imports(module)
    assert "cli" not in imported
    assert not imported & COMMAND_LINE or module in COMMAND_LINE


@pytest.mark.parametrize("module", list(OWN))
def test_no_foreign_click(module: str) -> None:
    assert not {name for name in _imports(OWN[module]) if _outermost(name) == "click" or name.startswith("typer._click")}


@pytest.mark.parametrize("path", sorted(PLUGINS.rglob("*.py")), ids=lambda path: str(path.relative_to(PLUGINS)))
def test_plugins_use_public_names_only(path: Path) -> None:
    imported = {name for name in _imports(path) if _outermost(name) == "batchcodec"}
    public = {"codec", "dataset", "errors", "hookspecs", "names", "parallel", "types"}
    for name in imported:
        parts = name.split(".")[1:]
        assert not any(part.startswith("_") for part in parts), name
        assert not parts or parts[0] in public or hasattr(batchcodec, parts[0]), name
        assert not parts or parts[0] not in ("learned", "report", "cli", "registry", "archive"), name


@pytest.mark.parametrize("module", list(OWN))
def test_no_assert_in_the_library(module: str) -> None:
    if module == "testing":
        pytest.skip("a conformance kit asserts")
    assert not [node for node in ast.walk(ast.parse(OWN[module].read_text())) if isinstance(node, ast.Assert)]


@pytest.mark.parametrize("module", [m for m in OWN if m not in COMMAND_LINE])
def test_only_the_command_line_prints(module: str) -> None:
    calls = [node.func for node in ast.walk(ast.parse(OWN[module].read_text())) if isinstance(node, ast.Call)]
    assert not [f for f in calls if isinstance(f, ast.Name) and f.id == "print"]


@pytest.mark.parametrize("module", list(OWN))
def test_no_pickle(module: str) -> None:
    source = OWN[module].read_text()
    assert not {name for name in _imports(OWN[module]) if _outermost(name) in ("pickle", "marshal", "shelve", "dill")}
    assert "torch.load" not in source
    assert "allow_pickle=True" not in source


def test_the_tree_of_errors_is_that_of_its_docstring() -> None:
    drawn = []
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^    ((?:[ |]  )*)(?:[|`]- )?(\w+Error)(?: \((\w+)\))? +(\d+)(?: |$)", line)
        if found is None:
            continue
        branch = re.match(r"^    ([ |`-]*)", line)
        depth = len(branch.group(1)) // 3 if branch else 0
        above[depth:] = [found.group(2)]
        drawn.append((found.group(2), above[depth - 1] if depth else "Exception", found.group(3), int(found.group(4))))
    classes = {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == errors.__name__
    }
    assert {name for name, *_ in drawn} == classes.keys()
    for name, parent, foreign, code in drawn:
        bases = [base.__name__ for base in classes[name].__bases__]
        assert bases == [parent, *([foreign] if foreign else [])], name
        assert classes[name].exit_code == code, name


def test_every_package_is_installed() -> None:
    """An editable install finds a package that the list of pyproject.toml lacks; a wheel would come without it."""
    listed = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {
        path.parent.relative_to(top.parent).as_posix().replace("/", ".").replace("plugins", "batchcodec_plugins", 1)
        for top in (ROOT, PLUGINS)
        for path in top.rglob("*.py")
    }
    assert sorted(listed) == sorted(folders)
