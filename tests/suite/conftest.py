"""A registry of the good fixture plugin, and a way to write suite files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kdbench.registry import Registry

GOOD = Path(__file__).parents[1] / "plugins" / "good"


@pytest.fixture(scope="module")
def registry():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(GOOD))
        yield Registry.discover(select=["kdb_good"])
    for module in [m for m in sys.modules if m.startswith("kdb_good")]:
        del sys.modules[module]


@pytest.fixture
def suite_file(tmp_path):
    """Writes a suite file; `edit` is a list of (old, new) pairs applied to the text first."""

    def write(text: str, *edit: tuple[str, str]) -> Path:
        for old, new in edit:
            assert old in text, old
            text = text.replace(old, new)
        path = tmp_path / "suite.toml"
        path.write_text(text)
        return path

    return write
