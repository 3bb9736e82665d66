"""The plugin of docs/plugins.md, installed as a distribution of its own, works through the console script."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
import site
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from helpers import CONSOLE_SCRIPT, Finished, picture

from batchcodec import Codec, Format, hookspecs

GUIDE = Path(__file__).parent.parent / "docs" / "plugins.md"

BROKEN_MODULE = "import a_module_that_is_missing\n"
BROKEN_PROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "batchcodec-broken"
version = "0.1"

[project.entry-points.batchcodec]
broken = "batchcodec_broken"

[tool.setuptools]
py-modules = ["batchcodec_broken"]
"""


def _files() -> dict[str, str]:
    """The code blocks of the guide that begin with the name of a file, by that name."""
    blocks = re.findall(r"^```(?:python|toml)\n# (\S+)\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    return dict(blocks)


def _commands() -> list[list[str]]:
    block = re.search(r"^```console\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert block
    return [shlex.split(line.removeprefix("$ ")) for line in block.group(1).splitlines()]


def test_the_guide_has_every_file() -> None:
    assert set(_files()) == {"batchcodec_jsonl.py", "pyproject.toml", "test_batchcodec_jsonl.py"}


def test_the_guide_has_every_hook_with_its_signature() -> None:
    tree = ast.parse(inspect.getsource(hookspecs))
    hooks = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list]
    assert len(hooks) == 3
    for node in hooks:
        signature = f"def {node.name}({ast.unparse(node.args)}) -> {ast.unparse(node.returns or ast.Constant(None))}"
        assert f"`{signature}`" in GUIDE.read_text(), signature


@pytest.mark.parametrize("contract", [Codec, Format])
def test_the_guide_names_every_part_of_the_contracts(contract: type) -> None:
    public = {name for name in {**vars(contract), **contract.__annotations__} if not name.startswith("_")}
    text = GUIDE.read_text()
    assert [name for name in sorted(public) if not re.search(rf"`{name}\b", text)] == []


class _Venv:
    """A virtual environment that sees what this Python has installed, and has site-packages of its own."""

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
        self.python = folder / "bin" / "python"
        own = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(folder)}))
        # `addsitedir` rather than a plain path, so that editable installs there are seen too.
        seen = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()})
        lines = [f"import site; site.addsitedir({path!r})" for path in seen]
        (own / "running.pth").write_text("\n".join(lines) + "\n")

    def run(self, *arguments: object, cwd: Path) -> Finished:
        done = subprocess.run(
            [str(self.python), *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def cli(self, *arguments: object, cwd: Path) -> Finished:
        return self.run(CONSOLE_SCRIPT, *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for name, text in _files().items():
        (folder / name).write_text(text)
    rows = [
        {"name": f"{'ab'[i % 2]}/{i}.png", "label": "ab"[i % 2], "pixels": picture((8, 6 + i % 2, 3), i).tolist()}
        for i in range(9)
    ]
    (folder / "digits.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def venv(project: Path, tmp_path_factory: pytest.TempPathFactory) -> _Venv:
    """With the plugin and, beside it, one that cannot be imported."""
    if not CONSOLE_SCRIPT.exists():
        pytest.skip("batchcodec is not installed beside this Python: there is no console script")
    made = _Venv(tmp_path_factory.mktemp("environment") / "venv")
    broken = tmp_path_factory.mktemp("broken")
    (broken / "pyproject.toml").write_text(BROKEN_PROJECT)
    (broken / "batchcodec_broken.py").write_text(BROKEN_MODULE)
    assert _commands()[0] == ["pip", "install", "."]
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    done = made.run("-m", "pip", "install", *options, ".", broken, cwd=project)
    assert done.rc == 0, done.stderr
    return made


@pytest.mark.slow
def test_the_commands_of_the_guide(venv: _Venv, project: Path) -> None:
    for command, *arguments in _commands()[1:]:
        assert command == "batchcodec"
        done = venv.cli(*arguments, cwd=project)
        assert done.rc == 0, done.stderr
        # The broken plugin is reported each time, on one line.
        assert [line for line in done.stderr.splitlines() if line.startswith("warning: ")] == [
            "warning: plugin broken of batchcodec-broken failed: "
            "ModuleNotFoundError: No module named 'a_module_that_is_missing'"
        ]
    digits, again = ((project / f"{name}.jsonl").read_text().splitlines() for name in ("digits", "again"))
    assert [json.loads(line) for line in digits] == [json.loads(line) for line in again]
    assert len(list((project / "images").rglob("*.png"))) == 9
    assert done.stdout.splitlines() == [json.loads(line)["name"] for line in again]


@pytest.mark.slow
def test_the_plugins_are_listed(venv: _Venv, project: Path) -> None:
    found = {p["name"]: p for p in venv.cli("plugins", "--json", cwd=project).json["plugins"]}
    assert found["jsonl"] == {
        "name": "jsonl",
        "distribution": "batchcodec-jsonl",
        "version": "1.0",
        "codecs": ["delta-1"],
        "formats": ["jsonl"],
        "error": None,
    }
    assert found["broken"]["error"].startswith("ModuleNotFoundError")
    assert found["codecs"]["error"] is None


@pytest.mark.slow
def test_a_reader_without_the_plugin_is_told_what_to_install(venv: _Venv, project: Path, tmp_path: Path) -> None:
    assert venv.cli("pack", "digits.jsonl", tmp_path / "a.cpack", "-c", "delta-1", cwd=project).rc == 0
    done = _without_plugin(tmp_path / "a.cpack", tmp_path / "out")
    assert done.rc == 5
    assert "pip install batchcodec-jsonl" in done.stderr


def _without_plugin(archive: Path, target: Path) -> Finished:
    command = [str(CONSOLE_SCRIPT), "unpack", str(archive), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return Finished(done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
def test_the_tests_of_the_guide_pass(venv: _Venv, project: Path) -> None:
    done = venv.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_batchcodec_jsonl.py", cwd=project)
    assert done.rc == 0, done.stdout
    assert "7 passed" in done.stdout
