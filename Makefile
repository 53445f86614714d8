# Each target makes its own virtual environment in .venv when there is none. PYTHON=python3.12 make ... picks another Python.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.PHONY: run test test-all lint types check tables bench bench-gpu docs clean

run: .venv/quickstart    ## train SE 1x, SE 10x and ME 10x on real data: a table and a picture in two minutes
	$(BIN)/fuxictr-me quickstart

test: .venv/dev          ## the test suite, on two cores
	$(PYTEST)

test-all: .venv/kernels  ## also the tests that take minutes or the network, of the experiment trackers, and of the GPU kernels, in Triton's interpreter
	$(PYTEST) -m "slow or not slow"

lint: .venv/dev          ## style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev         ## the type checker
	$(BIN)/python -m mypy

check: lint types test   ## what CI runs

tables: .venv/dev        ## write the tables of options in the docs, and the JSON schemas of the configs
	$(BIN)/python docs/write_option_tables.py

docs: .venv/dev          ## the guide, in build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: .venv/dev         ## what a claim about speed rests on
	$(BIN)/python benchmarks/abundance.py
	$(BIN)/python benchmarks/callback_cost.py
	$(BIN)/python benchmarks/prepare.py
	$(BIN)/python benchmarks/feed.py
	$(BIN)/python benchmarks/build.py
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/epoch.py
	$(BIN)/python benchmarks/sets.py --sets 1 4
	$(BIN)/python benchmarks/evaluate.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/ranks.py
	$(BIN)/python benchmarks/analyze.py

bench-gpu: .venv/dev     ## checks and figures of one GPU in under 8 minutes; a run that was cut off goes on (OUT=a folder)
	$(BIN)/python benchmarks/gpu/run.py --out $(or $(OUT),gpu_results)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "fuxictr-me needs Python 3.10 or newer: PYTHON=python3.11 make ..."; exit 2; }
	$(PYTHON) -m venv .venv

.venv/quickstart: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing into .venv (about a minute, torch is large) ..."
	$(PIP) -e '.[quickstart]'
	@touch $@

.venv/dev: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing into .venv (about a minute, torch is large) ..."
	$(PIP) -e '.[dev]'
	@touch $@

.venv/kernels: .venv/dev
	$(PIP) -e '.[dev,kernels,wandb]' mlflow-skinny
	@touch $@

clean:
	rm -rf .venv quickstart dist build
