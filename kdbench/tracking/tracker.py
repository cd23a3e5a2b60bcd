"""Events of a run to MLflow, and cells back from it. The only file that imports MLflow, and never at import.

One experiment a suite ("kdbench/<suite>"), one parent run an invocation that has something to log, one child
run a cell. Only the driver writes. The records in the workspace stay the truth: whatever is missing in a
store, `sync` replays.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from kdbench.api.records import CellRecord, RunSummary, StageSummary, hardware_label
from kdbench.errors import VerificationError, WorkspaceError
from kdbench.tracking import sqlite_reader
from kdbench.tracking import tags as codec

if TYPE_CHECKING:
    from types import ModuleType

    from mlflow import MlflowClient

SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")
_PARAMS_A_BATCH = 100
_METRICS_A_BATCH = 1_000
_TAGS_A_BATCH = 100
#: The cell's parent run: MLflow's own tag for nesting.
_PARENT = "mlflow.parentRunId"


def experiment_name(suite: str) -> str:
    return f"kdbench/{suite}"


def tracking_uri(uri: str | None, workspace: Path) -> str:
    """The URI given, else $MLFLOW_TRACKING_URI, else an SQLite file in the workspace."""
    return (
        uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path(workspace).resolve() / 'mlflow.db'}"
    )


class Tracker:
    """Writes what happens to a tracking store.

    Args:
        uri: MLflow's tracking URI; None for $MLFLOW_TRACKING_URI, else `<workspace>/mlflow.db`.
        workspace: where the default database lies, and the artifacts of any database that has no server.

    Every method raises WorkspaceError when the store can't be reached or refuses.
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

    def check(self, *, idle: bool = False) -> None:
        """Open the store, before any training. A server that does not answer fails within seconds.

        Args:
            idle: nothing is left to train, and most likely nothing to log: of an SQLite file that is there it
                is enough that it can be read, which does not import MLflow.
        """
        path = _readable(self.uri) if idle else None
        if path is not None:
            with contextlib.suppress(sqlite_reader.UnknownLayout):  # the client knows it, or what is wrong
                return sqlite_reader.check(path)
        with self._talking():
            self._client = open_client(self.uri)

    def holds(self, cell: CellRecord) -> bool:
        """Whether the store says of this finished cell what this record says: then logging it would add nothing.

        Asking an SQLite file does not import MLflow.
        """
        return self._find_finished(cell) is not None

    @property
    def client(self) -> MlflowClient:
        if self._client is None:
            self.check()
        assert self._client is not None
        return self._client

    def _talking(self) -> contextlib.AbstractContextManager[None]:
        return talking(self.uri)

    # -- events

    def run_started(self, run: RunSummary) -> None:
        """Make the parent run: what is to be done, with the whole suite as an artifact."""
        with self._talking():
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
        with self._talking():
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
        with self._talking():
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
        with self._talking():
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

        Returns:
            {"logged": runs written, "found": records that were there}.
        """
        counts = {"logged": 0, "found": 0}
        held: dict[str, dict[str, list[_Logged]]] = {}
        with self._talking():
            for cell in records:
                if cell.suite not in held:
                    self._experiment(cell.suite)  # one that was deleted is told before anything is logged
                    held[cell.suite] = {}
                    for logged in _read(_cell_runs(self.uri, cell.suite, None, codec.RECORD_TAG))[0]:
                        held[cell.suite].setdefault(logged.record.key, []).append(logged)
                known = held[cell.suite].setdefault(cell.key, [])
                if _holding(known, cell):
                    counts["found"] += 1
                    continue
                known.append(_Logged(self._log_cell(cell, parent=None), cell))
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
        runs = _cell_runs(self.uri, cell.suite, None, codec.RECORD_TAG, cell.key, lambda: self.client)
        return _holding(_read(runs)[0], cell)

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


class _Logged(NamedTuple):
    """A whole record, and the run that holds it."""

    run_id: str
    record: CellRecord


def fetch_cells(uri: str, suite: str, scale: str | None = None) -> list[CellRecord]:
    """The cells of a suite in a tracking store, one a key and scale, oldest first by when they were made, without
    curves.

    A failed cell is kept when no finished one has its key. No artifact is opened.

    Raises:
        WorkspaceError: the store is not there.
        VerificationError: a run in it holds no readable record or another one than was logged, and no other run
            holds that.
    """
    whole, damaged = _read(_cell_runs(uri, suite, scale, codec.RECORD_TAG))
    if damaged:
        run, error = damaged[0]
        more = f" (and {len(damaged) - 1} more runs)" if len(damaged) > 1 else ""
        raise VerificationError(
            f"run {run.run_id} ({run.run_name}){more}: {error.what}",
            where=_public(uri),
            hint="`kdbench track sync` logs it again from a workspace that has it; where that does not help, "
            "delete the run in the tracking store",
        ) from error
    return _merged(logged.record for logged in whole)


def _merged(records: Iterable[CellRecord]) -> list[CellRecord]:
    """One record a cell, of records in the order in which they were logged."""
    # `sync` may log older cells after newer ones
    return codec.merged(sorted(records, key=lambda c: c.created))


def _read(
    runs: Iterable[sqlite_reader.StoredRun],
) -> tuple[list[_Logged], list[tuple[sqlite_reader.StoredRun, VerificationError]]]:
    """The whole records, and the runs whose records are damaged with what is wrong.

    A damaged run is left out where another holds what was logged in it (`sync` does that): nothing is missing.
    """
    whole, damaged = [], []
    sums: set[str] = set()
    for run in runs:
        try:
            whole.append(_Logged(run.run_id, codec.from_tags(run.tags)))
        except VerificationError as error:
            damaged.append((run, error))
        else:
            sums.add(run.tags[codec.SUM_TAG])
    return whole, [(run, error) for run, error in damaged if run.tags.get(codec.SUM_TAG) not in sums]


def _holding(known: Iterable[_Logged], cell: CellRecord) -> str | None:
    """The last of the runs `known` that holds exactly `cell`, if with one more the store would say the same.

    It would not where a later run has other labels: then this record is the newer one, and is to be seen.
    """
    known = [k for k in known if (k.record.scale, k.record.key) == (cell.scale, cell.key)]
    own = codec.digest(cell)
    runs = [k.run_id for k in known if codec.digest(k.record) == own]
    if not runs or len(runs) == len(known):
        return runs[-1] if runs else None
    records = [k.record for k in known]
    (said,), (then,) = _merged(records), _merged([*records, cell])
    return runs[-1] if codec.digest(said) == codec.digest(then) else None


def _cell_runs(
    uri: str,
    suite: str,
    scale: str | None,
    tags: str,
    cell: str | None = None,
    client: Callable[[], MlflowClient] | None = None,
) -> list[sqlite_reader.StoredRun]:
    """The whole cell runs of a suite, oldest first, with those of their tags whose names begin with `tags`.

    An SQLite file is read without MLflow, unless its layout is one that only MLflow knows.

    Args:
        scale, cell: of this scale, of the cell of this key alone.
        client: gives one that is open, where one is needed.
    """
    path = _readable(uri)
    if path is not None:
        with contextlib.suppress(sqlite_reader.UnknownLayout):  # the client knows it, or what is wrong
            return sqlite_reader.cell_runs(path, experiment_name(suite), tags, scale, cell)
    return client_cell_runs(uri, suite, scale, tags, cell, client)


def client_cell_runs(
    uri: str,
    suite: str,
    scale: str | None,
    tags: str,
    cell: str | None = None,
    client: Callable[[], MlflowClient] | None = None,
) -> list[sqlite_reader.StoredRun]:
    """`kdbench.tracking.sqlite_reader.cell_runs` through MLflow's client, of any store; [] without the experiment.

    Raises:
        WorkspaceError: the store is not there.
    """
    query = "tags.`kdbench.kind` = 'cell' and tags.`kdbench.complete` = '1'"
    for name, value in (("scale", scale), ("cell", cell)):
        query += f" and tags.`kdbench.{name}` = '{value}'" if value else ""
    found = []
    token: str | None = None
    with talking(uri):
        asked = client() if client is not None else open_client(uri, create=False)
        experiment = asked.get_experiment_by_name(experiment_name(suite))
        if experiment is None:
            return []
        while True:
            page = asked.search_runs(
                [experiment.experiment_id],
                query,
                max_results=1_000,
                order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
                page_token=token,
            )
            for run in page:
                wanted = {k: v for k, v in run.data.tags.items() if k.startswith(tags)}
                found.append(sqlite_reader.StoredRun(run.info.run_id, run.info.run_name, wanted))
            token = page.token
            if not token:
                return found


# -- opening a store


def open_client(uri: str, *, create: bool = True) -> MlflowClient:
    """A client of a store that answers. A fresh SQLite file is initialised, one process at a time.

    Args:
        create: make an SQLite file that is not there; else that is an error.
    """
    scheme = (urlsplit(uri).scheme or uri).split("+")[0]
    if scheme not in SCHEMES:
        raise WorkspaceError(
            f"the tracking URI {uri!r} is none that kdbench can use",
            hint="MLflow no longer takes folders of files; use sqlite:///path/to/mlflow.db or http://host:port",
        )
    if scheme == "sqlite":
        return _open_sqlite(uri, create)
    if scheme in ("postgresql", "mysql", "mssql"):
        _knock(uri)
    mlflow = _mlflow()
    try:
        with _hurried():
            client = mlflow.MlflowClient(tracking_uri=uri)
            client.search_experiments(max_results=1)
    except ImportError as error:
        raise WorkspaceError(
            f"the driver of this database is not installed: {error}",
            where=_public(uri),
            hint=f"install the Python driver of {scheme}, or go through an MLflow server (http://...)",
        ) from error
    return client


def _readable(uri: str) -> Path | None:
    """The file of an SQLite store that is there, None for other stores."""
    path = sqlite_reader.database_file(uri)
    return path if path is not None and path.is_file() else None


def _knock(uri: str) -> None:
    """MLflow tries a database for minutes; whether anybody listens is known in seconds."""
    parts = urlsplit(uri)
    port = parts.port or {"postgresql": 5432, "mysql": 3306, "mssql": 1433}[parts.scheme.split("+")[0]]
    try:
        socket.create_connection((parts.hostname or "localhost", port), timeout=5).close()
    except OSError as error:
        raise WorkspaceError(
            f"nobody answers at port {port} of {parts.hostname or 'localhost'}: {error}", where=_public(uri)
        ) from error


def _open_sqlite(uri: str, create: bool) -> MlflowClient:
    from filelock import FileLock, Timeout

    name = uri.split("?")[0].partition(":///")[2]
    if not name:
        raise WorkspaceError(
            f"the tracking URI {uri!r} names no file",
            hint="write sqlite:///path/to/mlflow.db (three slashes)",
        )
    path = Path(name)
    if not path.exists() and not create:
        raise WorkspaceError(
            "there is no tracking database", where=str(path), hint="run a suite first, or give --tracking-uri"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            with path.open("rb") as f:
                head = f.read(16)
            if head not in (b"", b"SQLite format 3\0"):
                raise WorkspaceError("the tracking database is not an SQLite file", where=str(path))
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise PermissionError(f"not writable: {path}")
        # MLflow's own first use is not safe against another process's; the lock file stays, as locks do.
        with FileLock(f"{path}.lock", timeout=120):
            client = _mlflow().MlflowClient(tracking_uri=uri)
            client.search_experiments(max_results=1)
    except Timeout as error:
        raise WorkspaceError(
            "another process has been initialising the tracking database for two minutes",
            where=f"{path}.lock",
        ) from error
    except OSError as error:
        raise WorkspaceError(
            f"the tracking database can't be opened for writing: {error}",
            where=str(path),
            hint="choose another --workspace or --tracking-uri",
        ) from error
    return client


def _mlflow() -> ModuleType:
    """MLflow, quiet: no telemetry unless the user decided about it, warnings and errors alone."""
    if not {"MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"} & os.environ.keys():
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    # MLflow's own patience (7 attempts, minutes in all) would hold up a training at every event.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    import mlflow

    for name in ("mlflow", "alembic"):
        logger = logging.getLogger(name)
        if logger.level < logging.WARNING:
            logger.setLevel(logging.WARNING)
    return mlflow


@contextlib.contextmanager
def _hurried() -> Iterator[None]:
    """One attempt of five seconds for each request meanwhile."""
    hurry = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
    before = {name: os.environ.get(name) for name in hurry}
    os.environ.update(hurry)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def talking(uri: str) -> Iterator[None]:
    """What MLflow and the database below it raise, as a WorkspaceError that names the store."""
    _mlflow()
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        said = str(error).strip().splitlines()
        what = said[0][:300] if said else type(error).__name__
        hint = (
            "is the server up, and the address right? the records are in the workspace: `kdbench track sync`"
        )
        if "out-of-date database schema" in str(error):
            hint = f"the database was made by another MLflow: mlflow db upgrade {uri}"
        raise WorkspaceError(
            f"the tracking store can't be used: {what}", where=_public(uri), hint=hint
        ) from error


def _public(uri: str) -> str:
    """The URI without a password."""
    parts = urlsplit(uri)
    if not parts.password:
        return uri
    return uri.replace(f":{parts.password}@", ":***@")


def _when(run_id: str) -> tuple[str, str]:
    """Day and clock of a run's id ("20261121-101500-ab12cd"), else the id itself."""
    try:
        at = time.strptime(run_id[:15], "%Y%m%d-%H%M%S")
    except ValueError:
        return run_id, ""
    return time.strftime("%Y-%m-%d", at), time.strftime("%H:%M", at)
