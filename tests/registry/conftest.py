"""Puts fixture distributions (tests/plugins/<name>/) on the path, as if they were installed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[1] / "plugins"


@pytest.fixture
def install(monkeypatch):
    """Call with names of fixture distributions; they are gone after the test."""
    monkeypatch.delenv("KDBENCH_STRICT", raising=False)
    monkeypatch.delenv("KDBENCH_PLUGINS", raising=False)

    def put(*names: str) -> None:
        for name in names:
            assert (PLUGINS / name).is_dir(), name
            monkeypatch.syspath_prepend(str(PLUGINS / name))

    yield put
    for module in [m for m in sys.modules if m.startswith(("kdb_", "kdbench_file_"))]:
        del sys.modules[module]
    importlib.invalidate_caches()
