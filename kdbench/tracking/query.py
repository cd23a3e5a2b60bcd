"""Read cells and runs from a tracking store."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kdbench.api.records import CellRecord
from kdbench.errors import VerificationError, WorkspaceError
from kdbench.tracking import tags as codec
from kdbench.tracking.connect import open_client, public_uri, store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient


class StoredRun(NamedTuple):
    """The run of a complete cell: MLflow's id and name of it, and the tags that hold its record."""

    run_id: str
    run_name: str
    tags: dict[str, str]


class LoggedRecord(NamedTuple):
    """A complete record, and the id of the run that holds it."""

    run_id: str
    record: CellRecord


def experiment_name(suite: str) -> str:
    """Return the name of the experiment that holds the runs of a suite."""
    return f"kdbench/{suite}"


def fetch_cells(uri: str, suite: str, scale: str | None = None) -> list[CellRecord]:
    """Read the cells of a suite, one for each key and scale. No artifact is opened.

    A failed cell is returned only if no finished one has its key.

    Parameters
    ----------
    uri
        MLflow's tracking URI.
    suite
        Name of the suite.
    scale
        Scale of the cells; None for all scales.

    Returns
    -------
    list of CellRecord
        The cells without curves, oldest first.

    Raises
    ------
    WorkspaceError
        The store does not exist.
    VerificationError
        The record in a run is unreadable or was changed, and no other run holds the same record.
    """
    with store_errors(uri):
        runs = cell_runs(open_client(uri, create=False), suite, scale)
    whole, damaged = read_records(runs)
    if damaged:
        run, error = damaged[0]
        more = f" (and {len(damaged) - 1} more runs)" if len(damaged) > 1 else ""
        raise VerificationError(
            f"run {run.run_id} ({run.run_name}){more}: {error.what}",
            where=public_uri(uri),
            hint="`kdbench track sync` logs it again from a workspace that has it; where that does not help, "
            "delete the run in the tracking store",
        ) from error
    return _merged(logged.record for logged in whole)


def fetch_run(uri: str, run_id: str) -> list[CellRecord]:
    """Read the cells of one run of kdbench, cached ones included.

    Parameters
    ----------
    uri
        MLflow's tracking URI.
    run_id
        MLflow's id of the parent run, or kdbench's id of the run.

    Returns
    -------
    list of CellRecord
        The cells without curves, oldest first.

    Raises
    ------
    WorkspaceError
        The store does not exist, has no such run, or the run has not ended.
    """
    with store_errors(uri):
        client = open_client(uri, create=False)
        experiments = [e.experiment_id for e in client.search_experiments() if e.name.startswith("kdbench/")]
        if "-" in run_id:
            query = f"tags.`kdbench.kind` = 'run' and tags.`kdbench.run` = '{run_id}'"
        else:
            query = f"tags.`kdbench.kind` = 'run' and attributes.run_id = '{run_id}'"
        found = client.search_runs(experiments, query, max_results=1) if experiments else []
        if not found:
            raise WorkspaceError(
                f"there is no run {run_id!r}", where=uri, hint="kdbench track sync, or another URI"
            )
        parent = found[0].info.run_id
        if not any(f.path == "cells.json" for f in client.list_artifacts(parent)):
            raise WorkspaceError(f"run {run_id!r} has not ended", where=uri)
        listed = json.loads(Path(client.download_artifacts(parent, "cells.json")).read_text(encoding="utf-8"))
        runs = [client.get_run(cell["run_id"]) for cell in listed["cells"]]
    tags = [{k: v for k, v in r.data.tags.items() if k.startswith(codec.RECORD_TAG)} for r in runs]
    return sorted((codec.from_tags(t) for t in tags), key=lambda c: c.created)


def cell_runs(
    client: MlflowClient, suite: str, scale: str | None = None, cell: str | None = None
) -> list[StoredRun]:
    """Return the complete cell runs of a suite, oldest first; [] if the store has no such experiment.

    Parameters
    ----------
    client
        Client of the store.
    suite
        Name of the suite.
    scale
        Scale of the cells; None for all scales.
    cell
        Key of the cell; None for all cells.

    Returns
    -------
    list of StoredRun
        The runs with the tags that hold their records.
    """
    query = "tags.`kdbench.kind` = 'cell' and tags.`kdbench.complete` = '1'"
    for name, value in (("scale", scale), ("cell", cell)):
        query += f" and tags.`kdbench.{name}` = '{value}'" if value else ""
    experiment = client.get_experiment_by_name(experiment_name(suite))
    if experiment is None:
        return []
    found: list[StoredRun] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment.experiment_id],
            query,
            max_results=1_000,
            order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
            page_token=token,
        )
        for run in page:
            record = {k: v for k, v in run.data.tags.items() if k.startswith(codec.RECORD_TAG)}
            found.append(StoredRun(run.info.run_id, run.info.run_name, record))
        token = page.token
        if not token:
            return found


def read_records(
    runs: Iterable[StoredRun],
) -> tuple[list[LoggedRecord], list[tuple[StoredRun, VerificationError]]]:
    """Return the complete records, and the runs whose records are damaged with the error of each.

    A damaged run is skipped if another run holds the record that was logged in it, as after `sync`.
    """
    whole, damaged = [], []
    sums: set[str] = set()
    for run in runs:
        try:
            whole.append(LoggedRecord(run.run_id, codec.from_tags(run.tags)))
        except VerificationError as error:
            damaged.append((run, error))
        else:
            sums.add(run.tags[codec.SUM_TAG])
    return whole, [(run, error) for run, error in damaged if run.tags.get(codec.SUM_TAG) not in sums]


def run_holding(known: Iterable[LoggedRecord], cell: CellRecord) -> str | None:
    """Return the last of the runs `known` that holds exactly `cell`, or None.

    None also if a later run has other labels: then this record is the newer one and has to be logged.
    """
    known = [k for k in known if (k.record.scale, k.record.key) == (cell.scale, cell.key)]
    own = codec.digest(cell)
    runs = [k.run_id for k in known if codec.digest(k.record) == own]
    if not runs or len(runs) == len(known):
        return runs[-1] if runs else None
    records = [k.record for k in known]
    (said,), (then,) = _merged(records), _merged([*records, cell])
    return runs[-1] if codec.digest(said) == codec.digest(then) else None


def _merged(records: Iterable[CellRecord]) -> list[CellRecord]:
    """Return one record for each cell, given records in the order in which they were logged."""
    # `sync` may log older cells after newer ones.
    return codec.merged(sorted(records, key=lambda c: c.created))
