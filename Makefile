# Everything runs from a virtual environment that these targets make. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
IMAGES ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint format soak bench fuzz clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 10

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/.run

demo: $(VENV)/.run  ## install, then pack, report and unpack generated pictures (or IMAGES=dir); leaves demo/comparison.png
	$(BIN)/python benchmarks/demo.py --folder demo $(if $(IMAGES),--images '$(IMAGES)')

test: lint  ## install, then lint, type-check and run all tests (real data: set BATCHCODEC_DATA)
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev  ## put the sources into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

soak: $(VENV)/.dev  ## kill, tear and unplug pack a thousand times; flip, cut and lose bytes of archives
	$(BIN)/python tests/faults/soak.py --kills 1000
	$(BIN)/python tests/faults/damage.py

bench: $(VENV)/.dev  ## run the quick benchmarks: entropy coders, memory (the paper: benchmarks/paper.py)
	$(BIN)/python benchmarks/entropy.py
	$(BIN)/python benchmarks/memory.py

fuzz: $(VENV)/.dev  ## fuzz each reader for MINUTES=30, or one: TARGET=directory; see docs/security.md
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[fuzz]'
	$(BIN)/python tests/fuzz/run.py --minutes $(or $(MINUTES),30) $(if $(TARGET),--target $(TARGET))

clean:  ## remove what these targets made
	rm -rf $(VENV) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
