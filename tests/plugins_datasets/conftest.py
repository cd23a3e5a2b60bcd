from __future__ import annotations

import os
from pathlib import Path

import pytest

from kdbench.api import DataPlaces


@pytest.fixture
def places(tmp_path: Path) -> DataPlaces:
    """No data folder, a cache of its own, no network."""
    return DataPlaces(folders=(), cache=tmp_path / "cache", download=False)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that has cifar100 in it."""
    candidates = [Path(__file__).parents[3] / "shared" / "data"]
    if "KDBENCH_DATA" in os.environ:
        candidates.insert(0, Path(os.environ["KDBENCH_DATA"]))
    for folder in candidates:
        if list(folder.glob("**/train-*.parquet")) or list(folder.glob("**/cifar-100-python")):
            return folder
    pytest.skip("no CIFAR-100 in $KDBENCH_DATA or ../shared/data")
