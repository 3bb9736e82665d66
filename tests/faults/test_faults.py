"""`pack` survives kills, torn writes, failing calls and power cuts: what `soak.py` does, in small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


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
