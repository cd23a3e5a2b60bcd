"""Log events of a run to MLflow.

One experiment a suite ("kdbench/<suite>"), one parent run an invocation that has something to log, one child
run a cell. Only the driver writes. The records in the workspace stay the truth: whatever is missing in a
store, `sync` replays.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kdbench.api.records import CellRecord, RunSummary, StageSummary, hardware_label
from kdbench.errors import WorkspaceError
from kdbench.tracking import tags as codec
from kdbench.tracking.connect import open_client, store_errors, tracking_uri
from kdbench.tracking.query import LoggedRecord, cell_runs, experiment_name, read_records, run_holding

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PARAMS_A_BATCH = 100
_METRICS_A_BATCH = 1_000
_TAGS_A_BATCH = 100
#: The cell's parent run: MLflow's own tag for nesting.
_PARENT = "mlflow.parentRunId"


class Tracker:
    """Writes what happens to a tracking store.

    Every method raises WorkspaceError when the store can't be reached or refuses.

    Parameters
    ----------
    uri
        MLflow's tracking URI; None for $MLFLOW_TRACKING_URI, else `<workspace>/mlflow.db`.
    workspace
        Where the default database lies, and the artifacts of any database that has no server.
    """

    def __init__(self, uri: str | None, workspace: Path) -> None:
        self.workspace = Path(workspace)
        self.uri = tracking_uri(uri, self.workspace)
        self._client: MlflowClient | None = None
        self._experiments: dict[str, str] = {}
        self._parents: dict[str, str] = {}
        self._cells: dict[str, list[dict[str, str]]] = {}
        self._stages: dict[str, dict[str, int]] = {}

    # -- opening

    def check(self) -> None:
        """Open the store before any training. A server that does not answer fails within seconds."""
        with self._store_errors():
            self._client = open_client(self.uri)

    def holds(self, cell: CellRecord) -> bool:
        """Return whether the store has this record of a finished cell, so that logging it would add nothing."""
        with self._store_errors():
            return self._find_finished(cell) is not None

    @property
    def client(self) -> MlflowClient:
        if self._client is None:
            self.check()
        assert self._client is not None
        return self._client

    def _store_errors(self) -> contextlib.AbstractContextManager[None]:
        return store_errors(self.uri)

    # -- events

    def run_started(self, run: RunSummary) -> None:
        """Make the parent run: what is to be done, with the whole suite as an artifact."""
        with self._store_errors():
            experiment = self._experiment(run.suite)
            day, clock = _when(run.id)
            tags = {
                "kdbench.kind": "run",
                "kdbench.run": run.id,
                "kdbench.suite": run.suite,
                "kdbench.scale": run.scale,
                "kdbench.hardware": hardware_label(run.hardware),
                "kdbench.version": run.versions.get("kdbench", ""),
                "kdbench.git_commit": run.git_commit,
                "kdbench.status": "running",
                "mlflow.source.name": "kdbench",
            }
            name = " ".join(part for part in (run.suite, run.scale, day, clock) if part)
            parent = self.client.create_run(experiment, tags=tags, run_name=name).info.run_id
            self._parents[run.id] = parent
            self._cells[run.id] = []
            self._stages[run.id] = {}
            about = {"seed": run.seed, "stages": run.stages, "cells": run.cells, "workspace": run.workspace}
            params = codec.flat_params({**run.suite_config, "run": about, "versions": run.versions})
            self._log_batches(parent, params=params)
            self.client.log_dict(parent, json.loads(json.dumps(run.suite_config, default=str)), "suite.json")

    def stage_finished(self, run: RunSummary, stage: StageSummary) -> None:
        """Counted; written with the run's end."""
        counts = self._stages.setdefault(run.id, {})
        name = f"stages/{stage.kind}.{stage.status}"
        counts[name] = counts.get(name, 0) + 1

    def cell_finished(self, run: RunSummary, cell: CellRecord) -> None:
        """Log a cell as a child of its run, unless the store holds the same finished result: then the parent
        refers to it."""
        with self._store_errors():
            parent = self._parent(run)
            found = self._find_finished(cell)
            logged = found or self._log_cell(cell, parent)
            self._cells.setdefault(run.id, []).append(
                {
                    "cell": cell.key,
                    "title": cell.title,
                    "status": cell.status,
                    "logged": "found" if found else "now",
                    "run_id": logged,
                }
            )

    def run_finished(self, run: RunSummary) -> None:
        """End the parent run with what became of its cells, found ones included."""
        with self._store_errors():
            parent = self._parent(run)
            cells = self._cells.get(run.id, [])
            counts = dict(self._stages.get(run.id, {}))
            counts["cells/finished"] = sum(c["status"] == "finished" for c in cells)
            counts["cells/failed"] = sum(c["status"] == "failed" for c in cells)
            counts["cells/found"] = sum(c["logged"] == "found" for c in cells)
            tags = {"kdbench.status": run.status, "kdbench.cells_found": str(counts["cells/found"])}
            self._log_batches(parent, metrics=[(k, float(v), 0) for k, v in counts.items()], tags=tags)
            self.client.log_dict(parent, {"cells": cells}, "cells.json")
            status = {"finished": "FINISHED", "interrupted": "KILLED"}.get(run.status, "FAILED")
            self.client.set_terminated(parent, status=status)

    def log_files(self, run: RunSummary, paths: Iterable[Path], folder: str = "report") -> None:
        """Attach files (figures, a report, leaderboards) to the parent run; a folder is attached whole."""
        with self._store_errors():
            parent = self._parent(run)
            for path in paths:
                if Path(path).is_dir():
                    self.client.log_artifacts(parent, str(path), f"{folder}/{Path(path).name}")
                else:
                    self.client.log_artifact(parent, str(path), folder)

    # -- replaying

    def sync(self, records: Iterable[CellRecord]) -> dict[str, int]:
        """Log every record that the store does not hold yet; twice is as good as once.

        A run whose record was damaged or changed since it was logged holds nothing: its cell is logged again.

        Parameters
        ----------
        records
            Records of a workspace.

        Returns
        -------
        dict[str, int]
            {"logged": runs written, "found": records that were there}.
        """
        counts = {"logged": 0, "found": 0}
        held: dict[str, dict[str, list[LoggedRecord]]] = {}
        with self._store_errors():
            for cell in records:
                if cell.suite not in held:
                    self._experiment(cell.suite)  # one that was deleted is told before anything is logged
                    held[cell.suite] = {}
                    for logged in read_records(cell_runs(self.client, cell.suite))[0]:
                        held[cell.suite].setdefault(logged.record.key, []).append(logged)
                known = held[cell.suite].setdefault(cell.key, [])
                if run_holding(known, cell):
                    counts["found"] += 1
                    continue
                known.append(LoggedRecord(self._log_cell(cell, parent=None), cell))
                counts["logged"] += 1
        return counts

    # -- parts

    def _experiment(self, suite: str) -> str:
        if suite not in self._experiments:
            self._experiments[suite] = self._make_experiment(experiment_name(suite))
        return self._experiments[suite]

    def _make_experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            served = urlsplit(self.uri).scheme in ("http", "https", "databricks")
            place = None if served else (self.workspace.resolve() / "mlartifacts").as_uri()
            try:
                return self.client.create_experiment(name, artifact_location=place)
            except MlflowException as error:  # another driver may have made it in between
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise WorkspaceError(
                f"experiment {name!r} was deleted in the tracking store {self.uri}",
                hint=f"restore it: mlflow experiments restore --experiment-id {found.experiment_id}, "
                "or remove it for good: mlflow gc",
            )
        return found.experiment_id

    def _parent(self, run: RunSummary) -> str:
        if run.id not in self._parents:
            raise WorkspaceError(
                f"run {run.id!r} was never started in {self.uri}", hint="call run_started first"
            )
        return self._parents[run.id]

    def _find_finished(self, cell: CellRecord) -> str | None:
        """The run that holds exactly this record, whole and finished, and that no later run contradicts."""
        if cell.status != "finished":
            return None
        runs = cell_runs(self.client, cell.suite, cell=cell.key)
        return run_holding(read_records(runs)[0], cell)

    def _log_cell(self, cell: CellRecord, parent: str | None) -> str:
        tags = {**codec.describing_tags(cell), "mlflow.source.name": "kdbench"}
        if parent is not None:
            tags[_PARENT] = parent
        run = self.client.create_run(self._experiment(cell.suite), tags=tags, run_name=cell.title).info.run_id
        names = codec.metric_names(cell.results)
        metrics = [(name, float(r.value), 0) for name, r in zip(names, cell.results, strict=True)]
        metrics += [
            (codec.plain_name(f"epoch/{curve}"), float(value), step)
            for curve, values in cell.history.items()
            for step, value in enumerate(values, start=1)
            if value is not None
        ]
        metrics.append(("seconds", float(cell.seconds), 0))
        settings = cell.settings.flat() | {"steps": cell.steps, "images_seen": cell.images_seen}
        self._log_batches(run, metrics=metrics, params=codec.flat_params(settings))
        self._log_dataset(run, cell)
        self.client.log_dict(run, json.loads(json.dumps(cell.to_json(), default=str)), "record.json")
        self._log_figures(run, cell)
        if cell.error:
            self.client.log_text(run, cell.error, "error.txt")
        # The record goes last: a run that was cut off half-way is never read as a whole one.
        self._log_batches(run, tags={**codec.to_tags(cell), "kdbench.complete": "1"})
        self.client.set_terminated(run, status="FINISHED" if cell.status == "finished" else "FAILED")
        return run

    def _log_figures(self, run: str, cell: CellRecord) -> None:
        """A cell's drawings as "figures/<tap>/<reducer>/<metric>/<name>.svg".

        Records may outlive the files of their store and travel without them: a drawing that is gone is named
        in "figures/missing.txt", and the cell is logged all the same.
        """
        missing = []
        for name, path in cell.figures.items():
            file = self.workspace / path
            if not file.exists():
                missing.append(f"{name}: {path}")
                continue
            folder = codec.plain_name(f"figures/{name.rpartition('.')[0]}")
            try:
                self.client.log_artifact(run, str(file), folder)
            except OSError as error:
                raise WorkspaceError(f"a figure can't be read: {error}", where=str(file)) from error
        if missing:
            self.client.log_text(run, "\n".join(missing) + "\n", "figures/missing.txt")

    def _log_dataset(self, run: str, cell: CellRecord) -> None:
        from mlflow.entities import Dataset as LoggedDataset
        from mlflow.entities import DatasetInput, InputTag

        source = json.dumps({"dataset": cell.dataset, "digest": cell.dataset_digest})
        entity = LoggedDataset(
            name=cell.dataset[:500],
            digest=cell.dataset_digest[:36] or "unknown",
            source_type="kdbench",
            source=source,
        )
        self.client.log_inputs(run, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])

    def _log_batches(
        self,
        run: str,
        *,
        metrics: Sequence[tuple[str, float, int]] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """As few calls as MLflow allows: 100 parameters, 100 tags and 1,000 things in all a call."""
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        left_metrics = [Metric(name, value, now, step) for name, value, step in metrics]
        left_params = [Param(k, v) for k, v in (params or {}).items()]
        left_tags = [RunTag(k, v) for k, v in (tags or {}).items()]
        while left_metrics or left_params or left_tags:
            batch_params, left_params = left_params[:_PARAMS_A_BATCH], left_params[_PARAMS_A_BATCH:]
            batch_tags, left_tags = left_tags[:_TAGS_A_BATCH], left_tags[_TAGS_A_BATCH:]
            room = _METRICS_A_BATCH - len(batch_params) - len(batch_tags)
            batch_metrics, left_metrics = left_metrics[:room], left_metrics[room:]
            self.client.log_batch(run, metrics=batch_metrics, params=batch_params, tags=batch_tags)


def _when(run_id: str) -> tuple[str, str]:
    """Day and clock of a run's id ("20261121-101500-ab12cd"), else the id itself."""
    try:
        at = time.strptime(run_id[:15], "%Y%m%d-%H%M%S")
    except ValueError:
        return run_id, ""
    return time.strftime("%Y-%m-%d", at), time.strftime("%H:%M", at)
