"""Paths in settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from batchcodec.comparing.run import CompareOptions
from batchcodec.packing.options import PackOptions
from batchcodec.planning.options import PlanOptions


@pytest.mark.parametrize("options", [PackOptions, PlanOptions, CompareOptions])
def test_paths_may_be_text(options: type[PackOptions | PlanOptions | CompareOptions]) -> None:
    names = [field.name for field in dataclasses.fields(options) if "Path" in str(field.type)]
    assert "model" in names
    made = options(**dict.fromkeys(names, "some/file"))
    assert {name: getattr(made, name) for name in names} == dict.fromkeys(names, Path("some/file"))
    assert all(getattr(options(), name) is None for name in names)
