"""Compiled functions with and without a place to keep them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kdbench

PROGRAM = """
import numpy as np
from kdbench.api import exact_neighbours
print(exact_neighbours(np.eye(4), 2).indices.shape)
"""


def run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """PROGRAM with a copy of kdbench in `folder`, which has its own source to keep things beside."""
    places = {"PYTHONPATH": str(folder), "HOME": str(folder / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
    inherited = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=inherited | places | environment, capture_output=True, text=True, check=True, cwd=folder,
    )  # fmt: skip


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """kdbench's package, so that nothing is written beside the one under test."""
    from shutil import copytree, ignore_patterns

    copytree(Path(kdbench.__file__).parent, tmp_path / "kdbench", ignore=ignore_patterns("__pycache__"))
    return tmp_path


def test_what_is_compiled_is_kept(copy: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert run(copy, NUMBA_CACHE_DIR=str(cache)).stdout == "(4, 2)\n"
    assert list(cache.rglob("*.nbc"))


@pytest.mark.slow
def test_without_a_place_to_keep_it_everything_works_and_one_warning_says_so(copy: Path) -> None:
    # a file where a folder would have to be stops the superuser too, who may write anywhere
    blocked = copy / "kdbench" / "api" / "__pycache__"
    blocked.write_text("")
    elsewhere = {"XDG_CACHE_HOME": str(blocked), "HOME": str(blocked)}
    done = run(copy, NUMBA_CACHE_DIR="", **elsewhere)
    assert done.stdout == "(4, 2)\n"
    assert done.stderr.count("every process compiles again") == 1
