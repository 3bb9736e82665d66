"""`pack` survives kills, torn writes, failing calls and power cuts: what `soak.py` does, in small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def test_damage_is_found_and_stays_where_it_is() -> None:
    script = Path(__file__).with_name("damage.py")
    command = [sys.executable, str(script), "--flips", "100", "--losses", "5", "--step", "23", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.stderr == ""
    counts = json.loads(done.stdout)
    assert (done.returncode, counts["messages"]) == (0, [])
    assert counts["flips found"] == counts["flips"] > 100
    assert counts["losses restored bit for bit"] == 5


@pytest.mark.slow
def test_nothing_is_lost_whatever_goes_wrong() -> None:
    command = [sys.executable, str(Path(__file__).with_name("soak.py")), "--kills", "200", "--commands", "3", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.stderr == ""
    counts = json.loads(done.stdout)
    assert counts["messages"] == []
    assert (done.returncode, counts["items lost"], counts["failures"]) == (0, 0, 0)
    assert counts["kills"] >= 200
    assert min(counts["resumes"], counts["torn tails"], counts["failed calls"]) > 20, "it was too kind"
