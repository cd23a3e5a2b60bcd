"""Distributions made by `kdbench plugins new`, put on the path as if they were installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdbench.registry import Registry
from kdbench.scaffold import KINDS, create


def name_of(kind: str) -> str:
    return f"kdbench-made-{kind}"


def pretend_installed(folder: Path) -> Path:
    """The `src` of a distribution, with the metadata that pip would write."""
    source = folder / "src"
    (package,) = (p.name for p in source.iterdir())
    about = source / f"{package}-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {folder.name}\nVersion: 0.1.0\n")
    (about / "entry_points.txt").write_text(f"[kdbench]\n{package} = {package}\n")
    return source


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> dict[str, Path]:
    """Kind -> folder of a distribution as written, with its metadata beside its package."""
    into = tmp_path_factory.mktemp("made")
    registry = Registry.discover(select=["kdbench_reducers"])
    folders = {kind: create(name_of(kind), kind, into, registry).folder for kind in KINDS}
    for folder in folders.values():
        pretend_installed(folder)
    return folders
