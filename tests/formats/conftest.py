from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data() -> Path:
    """The real data sets, where they are."""
    folder = os.environ.get("BATCHCODEC_DATA")
    if not folder:
        pytest.skip("BATCHCODEC_DATA is not set to the folder of real images")
    return Path(folder)
