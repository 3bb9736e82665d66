"""`batchcodec view` in a process of its own: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from helpers import CONSOLE_SCRIPT, RunCli

Process = subprocess.Popen[str]


@pytest.fixture
def started(rgb_archive: tuple[Path, Path]) -> Iterator[Any]:
    """`started("--json")` gives a process that serves."""
    processes: list[Process] = []

    def start(*options: object, **env: str) -> Process:
        command = [str(CONSOLE_SCRIPT), "view", str(rgb_archive[1]), *map(str, options)]
        environment = {**os.environ, **env}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def first_line(process: Process) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_prints_its_address_and_ends_without_a_word(number: int, code: int, started: Any) -> None:
    process = started()
    url = first_line(process).strip()
    assert url.startswith("http://127.0.0.1:")
    with urlopen(f"{url}archive", timeout=30) as answer:
        assert json.load(answer)["n_items"] == 6
    other = "a" if url.rstrip("/")[-1] == "b" else "b"
    with pytest.raises(HTTPError, match="403"):
        urlopen(f"{url.rstrip('/')[:-1]}{other}/archive", timeout=30)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout, stderr) == (code, "", "")


def test_json_and_idleness(started: Any, rgb_archive: tuple[Path, Path]) -> None:
    process = started("--json", "--idle", "1s", "--against", rgb_archive[0])
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
    found = json.loads(stdout)
    assert (found["items"], found["archive"]) == (6, str(rgb_archive[1]))
    with pytest.raises(OSError, match="refused"):
        urlopen(found["url"], timeout=5)


def test_a_browser_is_opened_only_when_asked(started: Any, tmp_path: Path) -> None:
    """There is no terminal here. The browser is a script that writes down what it was given."""
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {seen}\n')
    browser.chmod(0o755)
    for options, opened in (((), False), (("--open",), True)):
        process = started("--idle", "1s", *options, BROWSER=f"{browser} %s", DISPLAY=":0")
        url = first_line(process).strip()
        deadline = time.monotonic() + 20
        while process.poll() is None and not seen.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert seen.exists() is opened
        if opened:
            process.communicate(timeout=30)
            assert seen.read_text().strip() == url


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--idle", "soon"], 2, "option idle"),
        (["--port", "70000"], 2, "--port"),
        (["--against", "nowhere"], 3, "nowhere"),
    ],
)
def test_what_it_refuses(options: list[str], code: int, said: str, invoke: RunCli, rgb_archive: tuple[Path, Path]) -> None:
    done = invoke("view", rgb_archive[1], *options)
    assert (done.rc, said in done.stderr) == (code, True)


def test_a_port_that_is_taken(started: Any, run_cli: RunCli, rgb_archive: tuple[Path, Path]) -> None:
    port = first_line(started()).split(":")[2].split("/")[0]
    done = run_cli("view", rgb_archive[1], "--port", port, "--json")
    assert done.rc == 2
    assert done.json["error"]["type"] == "OptionError"
    assert "a port that is free" in done.stderr


def test_what_is_no_archive(invoke: RunCli, rgb_archive: tuple[Path, Path], tmp_path: Path) -> None:
    assert invoke("view", rgb_archive[0] / "cat" / "0.png").rc == 4
    assert invoke("view", tmp_path / "no.cpack").rc == 4
