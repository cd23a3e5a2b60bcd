"""Suites from Python: load, change, plan and run one, and read its results as pandas frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kdbench.errors import UsageError, WorkspaceError
from kdbench.locations import data_places, discover, workspace_or_default

if TYPE_CHECKING:
    import pandas as pd

    from kdbench.api.records import CellRecord, Result
    from kdbench.plan import Plan
    from kdbench.plan.settings import SuiteSettings
    from kdbench.registry import Registry
    from kdbench.session.prepare import Session
    from kdbench.suite import ResolvedSuite, Suite


def load_suite(
    name_or_path: str | Path,
    scale: str | None = None,
    overrides: Sequence[str] = (),
    *,
    plugins: Sequence[str | Path] = (),
    data_dir: str | Path | None = None,
) -> LoadedSuite:
    """Load a suite and check it as far as possible without its data.

    Parameters
    ----------
    name_or_path
        Name of a registered suite ("paper-reference"), or path of a TOML file.
    scale
        One of the file's scales; None for its default.
    overrides
        Changes as `--set` takes them: "student.epochs=3", "reducers+=pca".
    plugins
        Paths of one-file plugins.
    data_dir
        Folder to look for datasets in, before `$KDBENCH_DATA` and the user cache.

    Returns
    -------
    LoadedSuite
        The suite, to be changed, planned or run.

    Raises
    ------
    UsageError
        There is no such suite or file.
    SuiteError
        Something in the suite is wrong.
    PluginError
        A component of the suite can't be imported.
    """
    from kdbench.suite import load_suite as resolve

    registry = discover([Path(p) for p in plugins])
    resolved = resolve(name_or_path, scale=scale, overrides=overrides, registry=registry)
    return LoadedSuite(resolved, Path(data_dir) if data_dir is not None else None, registry)


@dataclass(frozen=True)
class LoadedSuite:
    """A suite at one scale, with overrides. It is immutable: `with_` returns another one.

    Attributes
    ----------
    resolved
        The suite with and without overrides, and where it came from.
    data_dir
        Folder to look for datasets in first.
    registry
        Registry that the suite was loaded with.
    """

    resolved: ResolvedSuite
    data_dir: Path | None
    registry: Registry = field(repr=False)

    @property
    def suite(self) -> Suite:
        """The content of the suite, as pydantic models."""
        return self.resolved.suite

    def with_(self, *overrides: str, scale: str | None = None, **settings: Any) -> LoadedSuite:
        """Return the suite with further overrides, applied after those it has.

        Parameters
        ----------
        *overrides
            Changes as `--set` takes them: "student.epochs=3", "reducers+=pca", "metrics-=silhouette".
        scale
            Another scale; the overrides apply there too.
        **settings
            Overrides as keywords, with dots written as two underscores: `student__epochs=3`,
            `reducers=["pca", {"name": "tsne", "perplexity": 5}]`.

        Returns
        -------
        LoadedSuite
            The changed suite.

        Raises
        ------
        SuiteError
            An override is wrong, or the changed suite is.
        TypeError
            TOML has no such value.
        """
        from kdbench.suite import load_suite as resolve
        from kdbench.suite.toml import inline

        written = [f"{name.replace('__', '.')}={inline(value)}" for name, value in settings.items()]
        resolved = resolve(
            self.resolved.source,
            scale=scale or self.suite.scale,
            overrides=(*self.resolved.overrides, *overrides, *written),
            registry=self.registry,
        )
        return replace(self, resolved=resolved)

    def plan(
        self, *, workspace: str | Path | None = None, seed: int = 0, device: str | None = None
    ) -> PlannedSuite:
        """Plan a run without executing anything.

        Parameters
        ----------
        workspace
            Folder of results; None for `$KDBENCH_HOME` or else ".kdbench".
        seed
            Seed that every other seed is derived from, 0 or more.
        device
            "cpu", "cuda", ...; None for a GPU if there is one.

        Returns
        -------
        PlannedSuite
            The stages, which of them are cached, and how long the rest may take.

        Raises
        ------
        DataError
            The dataset can't be found.
        """
        return PlannedSuite(self._prepare(workspace, seed=seed, device=device, plan_only=True))

    def run(
        self,
        *,
        workspace: str | Path | None = None,
        jobs: int | Literal["auto"] = 1,
        device: str | None = None,
        tracking: str | Literal[False] | None = None,
        seed: int = 0,
        executor: str | Mapping[str, Any] | None = None,
        allow_failures: bool = False,
    ) -> Results:
        """Run the suite, or resume an earlier run, as `kdbench run` does.

        Leaderboard and report are written into the workspace. Stages that are cached there are not repeated.

        Parameters
        ----------
        workspace
            Folder of results; None for `$KDBENCH_HOME` or else ".kdbench".
        jobs
            Number of stages at once. More than one are executed in worker processes, so a script must call this
            under `if __name__ == "__main__":`.
        device
            "cpu", "cuda", ...; None for a GPU if there is one.
        tracking
            MLflow tracking URI; None for `$MLFLOW_TRACKING_URI` or else SQLite in the workspace, False for no
            tracking.
        seed
            Seed that every other seed is derived from, 0 or more.
        executor
            Name of an executor, or its name and parameters: {"name": "processes", "pin": False}.
        allow_failures
            Return even if cells failed; they are in `Results.failed`.

        Returns
        -------
        Results
            The records of all cells.

        Raises
        ------
        UsageError, SuiteError, DataError, PluginError
            Something is wrong; nothing was executed.
        WorkspaceError
            The workspace can't be used, or the tracking store was lost during the run.
        CellsFailed
            Some cells failed. The others are recorded; `results` reads them.
        """
        from kdbench.session.execute import chosen_jobs, conclude, execute, raise_failures

        if jobs != "auto" and (not isinstance(jobs, int) or jobs < 1):
            raise UsageError(f"jobs={jobs!r}: a number from 1, or 'auto'")
        session = self._prepare(
            workspace,
            seed=seed,
            device=device,
            tracking=tracking,
            executor=_name_and_params(executor),
            jobs=None if jobs == "auto" else jobs,
        )
        report = execute(session, jobs=chosen_jobs(session)[0])
        for sentence in report.warnings:
            session.warn(sentence)
        _, files = conclude(session, report)
        raise_failures(session, report, allow_failed_cells=allow_failures)
        return Results(
            session.resolved, report.cells, self.registry, report.executed, report.cached, tuple(files)
        )

    def results(self, *, workspace: str | Path | None = None) -> Results:
        """Read the workspace's records of this suite and scale, whatever their settings; nothing is run.

        Parameters
        ----------
        workspace
            Folder of results; None for `$KDBENCH_HOME` or else ".kdbench".

        Returns
        -------
        Results
            The records of all cells.

        Raises
        ------
        WorkspaceError
            There is no workspace, or it has no record of this suite.
        """
        from kdbench.store import Store

        root = workspace_or_default(workspace)
        cells = Store(root).cells(self.suite.name, self.suite.scale) if root.is_dir() else []
        if not cells:
            raise WorkspaceError(
                f"no cell of {self.suite.name!r} at scale {self.suite.scale!r}",
                where=str(root),
                hint="run it first",
            )
        return Results(self.resolved, cells, self.registry)

    def _prepare(self, workspace: str | Path | None, **options: Any) -> Session:
        from kdbench.session.prepare import prepare

        return prepare(
            self.resolved,
            self.registry,
            workspace=workspace_or_default(workspace),
            places=data_places(self.data_dir),
            **options,
        )


def _name_and_params(executor: str | Mapping[str, Any] | None) -> tuple[str, dict[str, Any]] | None:
    if executor is None or isinstance(executor, str):
        return None if executor is None else (executor, {})
    params = dict(executor)
    if not isinstance(params.get("name"), str):
        raise UsageError(f"{dict(executor)!r} has no name", where="executor")
    return params.pop("name"), params


@dataclass(frozen=True)
class PlannedSuite:
    """A plan of a suite over its data."""

    _session: Session = field(repr=False)

    @property
    def plan(self) -> Plan:
        """Stages with their keys, cells and exclusions."""
        return self._session.plan

    @property
    def outstanding(self) -> int:
        """Number of stages that are still to be executed."""
        return len(self._session.outstanding)

    @property
    def seconds(self) -> float:
        """Estimated time of the outstanding stages, one after another.

        Based on the workspace's records of similar stages; a rough guess without any.
        """
        from kdbench.session.estimate import work_left

        return sum(
            w.seconds for w in work_left(self._session.store, self._session.outstanding, self._session.device)
        )

    @property
    def exclusions(self) -> tuple[str, ...]:
        """Combinations that the suite names and the plan excludes, each with its reason."""
        return tuple(self.plan.exclusions)

    def frame(self) -> pd.DataFrame:
        """Return one row per stage: key, kind, component, title, state ("cached", "to run" or "not needed")."""
        import pandas as pd

        states = self._session.states()
        rows = [(s.key, s.kind, s.component, s.title, states[s.key]) for s in self.plan.stages.values()]
        return pd.DataFrame(rows, columns=["key", "kind", "component", "title", "state"])

    def __repr__(self) -> str:
        return (
            f"<plan of {self.plan.suite.name}: {len(self.plan.cells)} cells, {len(self.plan.stages)} stages, "
            f"{self.outstanding} to run>"
        )


#: Columns of `Results.frame`. `key` and `status` are the cell's. `variant` lists the settings that differ from the
#: suite's, as on a leaderboard; "" for the suite's own settings.
RESULT_COLUMNS = (
    "suite", "scale", "dataset", "budget", "fold", "seed", "scheme", "student", "teacher", "tap", "reducer",
    "metric", "value_name", "value", "setting", "primary", "variant", "key", "status",
)  # fmt: skip


def _variants(cells: Sequence[CellRecord], reference: SuiteSettings) -> Callable[[CellRecord, Result], str]:
    """Return a function that labels the settings of a result as the leaderboard does.

    A result that no row counts, because a newer cell of the same fold has it too, gets its cell's label.
    """
    from kdbench.leaderboard.grouping import group, variants
    from kdbench.leaderboard.samples import samples

    grouped = group(cells)
    labels = variants(grouped, reference)
    of_cell = {g.cell.key: labels[g.experiment, g.cell.budget] for g in grouped}
    counted = {
        (cell.key, *sample.measured): sample.variant
        for sample in samples(cells, reference)
        for cell in sample.cells.values()
    }

    def variant_of(cell: CellRecord, r: Result) -> str:
        measured = (cell.key, r.metric, r.value_name, r.tap, r.reducer, r.setting)
        return counted.get(measured, of_cell[cell.key])

    return variant_of


@dataclass(frozen=True)
class Results:
    """Records of one suite and scale.

    Attributes
    ----------
    resolved
        The suite as it was run, and without overrides.
    cells
        One record for each combination of dataset, budget, fold and scheme.
    registry
        Registry that the suite was loaded with.
    executed
        Number of stages that the run executed; 0 if nothing was run.
    cached
        Number of stages that were cached; 0 if nothing was run.
    files
        Files that the run wrote.
    """

    resolved: ResolvedSuite = field(repr=False)
    cells: list[CellRecord] = field(repr=False)
    registry: Registry = field(repr=False)
    executed: int = 0
    cached: int = 0
    files: tuple[Path, ...] = ()

    @property
    def suite(self) -> Suite:
        """The suite as it was run, as pydantic models."""
        return self.resolved.suite

    @property
    def failed(self) -> list[CellRecord]:
        """The failed cells; `error` of each is its traceback."""
        return [c for c in self.cells if c.status == "failed"]

    def frame(self) -> pd.DataFrame:
        """Return one row per result, with the columns `RESULT_COLUMNS`.

        `tap` and `reducer` are None if the metric uses none. A workspace may contain several settings of a suite:
        select one `variant`, or group by it, before taking a mean. A result that several cells of one fold have (a
        network measured with two lists of metrics) appears once, from the newest finished cell, as on a
        leaderboard.
        """
        import pandas as pd

        from kdbench.session.leaderboards import settings_of

        of_cell = (*RESULT_COLUMNS[:9], "key", "status")
        variant_of = _variants(self.cells, settings_of(self.resolved, self.registry))
        rows: dict[tuple, dict[str, Any]] = {}
        for cell in sorted(self.cells, key=lambda c: (c.status == "finished", c.created)):
            about = {name: getattr(cell, name) for name in of_cell}
            for result in cell.results:
                row = {**about, **vars(result), "variant": variant_of(cell, result)}
                measured = tuple(
                    row[c] for c in RESULT_COLUMNS if c not in ("value", "primary", "key", "status")
                )
                rows[measured] = row
        return pd.DataFrame(list(rows.values()), columns=list(RESULT_COLUMNS))

    def leaderboard(self) -> pd.DataFrame:
        """Return the rows of the leaderboard, with the columns `kdbench.leaderboard.COLUMNS`.

        Means over folds with 95 % intervals, paired differences to the undistilled student, published numbers.
        """
        import pandas as pd

        from kdbench.leaderboard import COLUMNS
        from kdbench.session.leaderboards import leaderboard

        board = leaderboard(self.cells, self.resolved, self.registry)
        return pd.DataFrame([row.to_dict() for row in board.rows], columns=list(COLUMNS))

    def claims(self) -> pd.DataFrame:
        """Return the verdict on each claim of the suite, one row per claim."""
        import pandas as pd

        from kdbench.session.leaderboards import verdicts

        return pd.DataFrame([v.to_json() for v in verdicts(self.cells, self.resolved, self.registry)])

    def compare(self, a: str, b: str, *, metrics: Sequence[str] = (), every: bool = False) -> pd.DataFrame:
        """Compare two schemes or students, paired by fold, as `kdbench compare` does.

        Parameters
        ----------
        a
            A scheme or student.
        b
            Another one.
        metrics
            Metrics or values to compare; empty for all.
        every
            Compare all values, not only those that metrics are ranked by.

        Returns
        -------
        DataFrame
            One row per measurement that both have.

        Raises
        ------
        UsageError
            There is no such scheme or student.
        WorkspaceError
            They have no measurement in common.
        """
        import pandas as pd

        from kdbench.leaderboard.board import directions_of
        from kdbench.leaderboard.compare import compare, side
        from kdbench.session.leaderboards import settings_of

        found = compare(
            side(a, self.cells),
            side(b, self.cells),
            suites={(self.suite.name, self.suite.scale): settings_of(self.resolved, self.registry)},
            metrics=tuple(metrics),
            directions=directions_of(self.registry),
            every=every,
        )
        return pd.DataFrame([row.to_json() for row in found.rows])

    def __len__(self) -> int:
        return len(self.cells)
