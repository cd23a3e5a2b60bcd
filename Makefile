# The first call creates the environment and installs what its target needs.
# On Linux PyTorch comes with CUDA: make run needs 9 GB of disk while it installs, make test 12 GB.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
comma := ,

# Two test processes with one thread each are the fastest on two cores; more BLAS threads would compete for them.
TEST_ENV := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONHASHSEED=0
PYTEST_ARGS ?= -n 2 --dist worksteal --durations=15

.DEFAULT_GOAL := help
.PHONY: help run test lint docs bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' Makefile
	@echo 'PYTHON=python3.12 selects the interpreter (3.11 to 3.13), VENV=DIR the environment; ARGS goes to kdbench run.'

run: $(VENV)/.run  ## install what a run needs, and run the reference suite at its quick scale
	$(BIN)/kdbench run paper-reference $(ARGS)

test: lint  ## install everything, then lint and run all tests
	$(TEST_ENV) $(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.test  ## check style, import order and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pydoclint --quiet kdbench plugins
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: $(VENV)/.docs  ## build the documentation site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.test  ## run the benchmarks, and print their figures
	mkdir -p .benchmarks
	$(BIN)/python -m pytest benchmarks --benchmark-only --benchmark-sort=name --benchmark-json=.benchmarks/latest.json
	$(BIN)/python benchmarks/figures.py .benchmarks/latest.json

clean:  ## remove the environment, the site and all caches
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .benchmarks

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v < (3, 14))' || \
		{ echo "kdbench needs Python 3.11 to 3.13: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)

# $(call install,EXTRAS,GB): GB is the peak use of disk, downloads included (measured with pip 23).
define install
@free=$$(df -Pk $(VENV) | awk 'NR == 2 { print int($$4 * 1024 / 1e9) }'); test "$$free" -ge $(2) || \
	echo "warning: $$free GB free for $(VENV); installing takes up to $(2) GB. VENV=DIR and TMPDIR=DIR choose another disk" >&2
$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$(1)]"
endef

# One pip call resolves torch and torchvision together: PyPI's torchvision does not import next to another torch.
$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(call install,offline-teacher,9)
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(call install,dev$(comma)all,12)
	@touch $@ $(VENV)/.run

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(call install,docs,9)
	@touch $@
