# `make run`: install what `kdbench run` needs and run the reference suite at its quick scale.
# `make test`: install everything, then lint and tests.
# PYTHON picks the interpreter (3.11 to 3.13); VENV the environment; ARGS goes to kdbench run.
# On Linux PyTorch comes with CUDA: make run needs 9 GB of disk while it installs, make test 12 GB.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
comma := ,

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

# $(call install,EXTRAS,GB): GB is what it takes at its peak, downloads beside what is installed (measured with pip 23).
define install
@free=$$(df -Pk $(VENV) | awk 'NR == 2 { print int($$4 * 1024 / 1e9) }'); test "$$free" -ge $(2) || \
	echo "warning: $$free GB free for $(VENV); installing takes up to $(2) GB. VENV=DIR and TMPDIR=DIR put it elsewhere" >&2
$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$(1)]"
endef

# One pip call resolves torch and torchvision together: PyPI's torchvision does not import beside another torch.
$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(call install,offline-teacher,9)
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(call install,dev$(comma)all,12)
	@touch $@ $(VENV)/.run
