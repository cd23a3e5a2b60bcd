from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "leaderboard"))  # synthetic_cells


@pytest.fixture(autouse=True)
def no_tracking_uri(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory) -> Path:
    """An empty database with MLflow's tables: they take seconds to make, and a moment to copy."""
    from kdbench.tracking import Tracker

    workspace = tmp_path_factory.mktemp("migrated")
    Tracker(None, workspace).check()
    return workspace / "mlflow.db"


@pytest.fixture
def workspace(migrated, tmp_path) -> Path:
    shutil.copy(migrated, tmp_path / "mlflow.db")
    return tmp_path
