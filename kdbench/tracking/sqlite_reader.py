"""MLflow's SQLite file read without MLflow: the tags that hold records, and nothing else.

The client builds every run with all its metrics and parameters, and costs more than a second of imports; a
leaderboard wants neither, and a run that finds everything done only wants to know that it is logged. What is
read here is what the client would give for the same question, which the tests hold it to. It reads three
tables (experiments, runs, tags) that MLflow has had since its first release, and writes nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

#: Columns that are read, by table: a database without them is laid out in another way.
_LAYOUT = {
    "experiments": {"experiment_id", "name"},
    "runs": {"run_uuid", "name", "experiment_id", "lifecycle_stage", "start_time"},
    "tags": {"key", "value", "run_uuid"},
}
_CELLS = """
    SELECT runs.run_uuid, runs.name, runs.start_time FROM runs
    JOIN tags AS kind ON kind.run_uuid = runs.run_uuid AND kind.key = 'kdbench.kind' AND kind.value = 'cell'
    JOIN tags AS whole ON whole.run_uuid = runs.run_uuid
        AND whole.key = 'kdbench.complete' AND whole.value = '1'
    WHERE runs.experiment_id = :experiment AND runs.lifecycle_stage = 'active'
"""
_OF_TAG = """
    AND EXISTS (SELECT 1 FROM tags WHERE tags.run_uuid = runs.run_uuid
        AND tags.key = 'kdbench.{name}' AND tags.value = :{name})
"""


class StoredRun(NamedTuple):
    """A whole cell run: MLflow's id and name of it, and those of its tags that were asked for."""

    run_id: str
    run_name: str
    tags: dict[str, str]


class UnknownLayout(Exception):
    """The file is not laid out as this module knows it; MLflow's client knows, or says what is wrong."""


def database_file(uri: str) -> Path | None:
    """The file that an MLflow URI names; None for any other store, and for URIs with options of a driver."""
    parts = urlsplit(uri)
    if parts.scheme != "sqlite" or parts.query:
        return None
    name = uri.partition(":///")[2]
    return Path(name) if name else None


def check(path: Path) -> None:
    """Read as much of the file as shows that it can be read.

    Raises:
        UnknownLayout: as `cell_runs`.
    """
    with _reading(path):
        pass


def cell_runs(
    path: Path, experiment: str, tags: str, scale: str | None = None, cell: str | None = None
) -> list[StoredRun]:
    """The whole cell runs of an experiment, oldest first; none where there is no such experiment.

    Args:
        experiment: its name.
        tags: what the names of the wanted tags begin with.
        scale, cell: of this scale, of the cell of this key alone.

    Raises:
        UnknownLayout: the file is no database of this layout, or it can't be read now.
    """
    with _reading(path) as db:
        number = _experiment(db, experiment)
        if number is None:
            return []
        asked = {name: value for name, value in (("scale", scale), ("cell", cell)) if value}
        cells = _CELLS + "".join(_OF_TAG.format(name=name) for name in asked)
        query = f"""
            SELECT cells.run_uuid, cells.name, tags.key, tags.value FROM ({cells}) AS cells
            LEFT JOIN tags ON tags.run_uuid = cells.run_uuid AND tags.key >= :first AND tags.key < :after
            ORDER BY cells.start_time, cells.run_uuid
        """
        about = {"experiment": number, "first": tags, "after": tags + "\U0010ffff", **asked}
        runs: dict[str, StoredRun] = {}
        for run_id, name, key, value in db.execute(query, about):
            tags_of = runs.setdefault(run_id, StoredRun(run_id, name or "", {})).tags
            if key is not None:
                tags_of[key] = value
        return list(runs.values())


def _experiment(db: sqlite3.Connection, name: str) -> int | None:
    found = db.execute("SELECT experiment_id FROM experiments WHERE name = ?", (name,)).fetchall()
    if len(found) > 1:  # one a workspace of MLflow; the client knows which is the present one
        raise UnknownLayout(f"{len(found)} experiments are called {name!r}")
    return found[0][0] if found else None


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=30)) as db:
            for table, columns in _LAYOUT.items():
                known = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
                if not columns <= known:
                    raise UnknownLayout(f"table {table!r} lacks {sorted(columns - known)}")
            yield db
    except sqlite3.Error as error:
        raise UnknownLayout(str(error)) from error
