"""A suite from Python: load it, change it, plan it, run it, read its results as pandas frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kdbench.errors import UsageError
from kdbench.locations import data_places, discover, warn_in_python, workspace_or_default

if TYPE_CHECKING:
    import pandas as pd

    from kdbench.api.records import CellRecord, Result
    from kdbench.plan import Plan
    from kdbench.registry import Registry
    from kdbench.session.prepare import Session
    from kdbench.suite.schema import Suite


def load_suite(
    name_or_path: str | Path,
    scale: str | None = None,
    overrides: Sequence[str] = (),
    *,
    plugins: Sequence[str | Path] = (),
    data_dir: str | Path | None = None,
) -> LoadedSuite:
    """A suite, checked as far as it can be without its data.

    Args:
        name_or_path: a registered suite ("paper-reference"), or the path of a TOML file.
        scale: one of the file's scales; its default for None.
        overrides: as `--set` takes them: "student.epochs=3", "reducers+=pca".
        plugins: one-file plugins.
        data_dir: where datasets are looked for first, before `$KDBENCH_DATA` and the user cache.

    Raises:
        UsageError: there is no such suite or file. SuiteError: anything in it is wrong.
        PluginError: a component it names can't be imported.
    """
    from kdbench.suite import load_suite as load

    registry = discover([Path(p) for p in plugins])
    suite = load(name_or_path, scale=scale, overrides=tuple(overrides), registry=registry)
    where = Path(data_dir) if data_dir is not None else None
    return LoadedSuite(suite, name_or_path, scale, tuple(overrides), where, registry)


@dataclass(frozen=True)
class LoadedSuite:
    """A suite at one scale, with what was changed of it. It is not changed itself: `with_` returns another.

    `suite` is its content, as pydantic models.
    """

    suite: Suite
    source: str | Path
    scale: str | None
    overrides: tuple[str, ...]
    data_dir: Path | None
    registry: Registry = field(repr=False)

    def with_(self, *overrides: str, scale: str | None = None, **settings: Any) -> LoadedSuite:
        """The same suite with more changed, after what was changed already.

        Args:
            overrides: as `--set` takes them: "student.epochs=3", "reducers+=pca", "metrics-=silhouette".
            scale: another scale; the overrides hold there too.
            settings: the same as keywords, dots written as two underscores: `student__epochs=3`,
                `reducers=["pca", {"name": "tsne", "perplexity": 5}]`.

        Raises:
            SuiteError: as `load_suite`. TypeError: a value that TOML does not have.
        """
        from kdbench.suite import load_suite as load
        from kdbench.suite.toml import inline

        written = [f"{name.replace('__', '.')}={inline(value)}" for name, value in settings.items()]
        whole = (*self.overrides, *overrides, *written)
        chosen = scale or self.scale
        suite = load(self.source, scale=chosen, overrides=whole, registry=self.registry)
        return replace(self, suite=suite, scale=chosen, overrides=whole)

    def plan(
        self, *, workspace: str | Path | None = None, seed: int = 0, device: str | None = None
    ) -> PlannedSuite:
        """What a run would do: stages, which of them are done, and how long the rest may take.

        Args: as `run`.

        Raises:
            DataError: the dataset can't be found. Others as `run`.
        """
        return PlannedSuite(self._session(workspace, seed, device, only_plan=True))

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
        """Run the suite, or go on where an earlier run of it stopped; what `kdbench run` does.

        Leaderboard and report are written into the workspace. What is done already is found there.

        Args:
            workspace: folder of results; `$KDBENCH_HOME`, else ".kdbench", for None.
            jobs: stages at once; more than one run in worker processes, so that a script which asks for them
                does so under `if __name__ == "__main__":`.
            device: "cpu", "cuda", ...; a GPU where there is one for None.
            tracking: MLflow tracking URI; `$MLFLOW_TRACKING_URI`, else SQLite in the workspace, for None; False
                for no tracking at all.
            seed: that every other seed is derived from, from 0.
            executor: its name, or its name and parameters: {"name": "processes", "pin": False}.
            allow_failures: return although cells failed; they are in `Results.failed`.

        Raises:
            UsageError, SuiteError, DataError, WorkspaceError, PluginError: before anything is executed.
            CellsFailed: some cells failed; the others are recorded, and `results` reads them.
            WorkspaceError: at the end, where the tracking store was lost on the way.
        """
        from kdbench.session import execute
        from kdbench.session.observers import Hooks, Tracking

        session = self._session(workspace, seed, device)
        tracker = None
        if tracking is not False:
            from kdbench.tracking import Tracker

            tracker = Tracker(tracking, session.store.root)
        named = _executor(executor)
        if named is not None:
            execute.check_executor(session.registry, *named, several=jobs != 1)
        idle = not session.outstanding
        told = None
        if tracker is not None:
            tracker.check()
            told = Tracking(tracker, idle=idle)
        if jobs == "auto":
            jobs, _ = execute.chosen_jobs(session)
        if not isinstance(jobs, int) or jobs < 1:
            raise UsageError(f"jobs={jobs!r}: a number from 1, or 'auto'")
        observers = [Hooks(session.registry), *([told] if told else [])]
        report = execute.execute(session, observers, jobs=jobs, executor=named)
        for sentence in report.warnings:
            warn_in_python(sentence)
        _, files = execute.conclude(session, report, told)
        if told is not None and told.failure is not None:
            raise told.failure
        if not allow_failures:
            execute.raise_failed(report)
        return Results(
            session.plan.suite, report.cells, self.registry, report.executed, report.cached, tuple(files),
            session.unchanged(),
        )  # fmt: skip

    def results(self, *, workspace: str | Path | None = None) -> Results:
        """What the workspace holds of this suite at this scale, whatever the settings; nothing is run.

        Raises:
            WorkspaceError: there is no workspace, or nothing of this suite in it.
        """
        from kdbench.errors import WorkspaceError
        from kdbench.session.prepare import unchanged
        from kdbench.store import Store

        root = workspace_or_default(workspace)
        cells = Store(root).cells(self.suite.name, self.suite.scale) if root.is_dir() else []
        if not cells:
            raise WorkspaceError(
                f"no cell of {self.suite.name!r} at scale {self.suite.scale!r}",
                where=str(root),
                hint="run it first",
            )
        whole = unchanged(self.suite, self.source, self.overrides, self.registry)
        return Results(self.suite, cells, self.registry, unchanged=whole)

    def _session(
        self, workspace: str | Path | None, seed: int, device: str | None, only_plan: bool = False
    ) -> Session:
        from kdbench.session.prepare import prepare

        return prepare(
            self.source,
            scale=self.scale,
            overrides=self.overrides,
            registry=self.registry,
            workspace=workspace_or_default(workspace),
            places=data_places(self.data_dir),
            seed=seed,
            device=device,
            only_plan=only_plan,
        )


def _executor(given: str | Mapping[str, Any] | None) -> tuple[str, dict[str, Any]] | None:
    if given is None or isinstance(given, str):
        return None if given is None else (given, {})
    params = dict(given)
    if not isinstance(params.get("name"), str):
        raise UsageError(f"{dict(given)!r} has no name", where="executor")
    return params.pop("name"), params


@dataclass(frozen=True)
class PlannedSuite:
    """A plan over the suite's data."""

    _session: Session = field(repr=False)

    @property
    def plan(self) -> Plan:
        """Stages with their keys, cells and exclusions."""
        return self._session.plan

    @property
    def outstanding(self) -> int:
        """Stages that are still to be executed."""
        return len(self._session.outstanding)

    @property
    def seconds(self) -> float:
        """What they may take, one after another: from the workspace's records where it has some, else a rough
        guess."""
        from kdbench.session.estimate import work_left

        return sum(
            w.seconds for w in work_left(self._session.store, self._session.outstanding, self._session.device)
        )

    @property
    def exclusions(self) -> tuple[str, ...]:
        """What the suite names and the plan leaves out, each with its reason."""
        return tuple(self.plan.exclusions)

    def frame(self) -> pd.DataFrame:
        """One row a stage: key, kind, component, title, state ("done", "to do" or "not needed")."""
        import pandas as pd

        left = {s.key for s in self._session.outstanding}
        rows = [
            {
                "key": s.key,
                "kind": s.kind,
                "component": s.component,
                "title": s.title,
                "state": "done"
                if s.key in self._session.done
                else "to do"
                if s.key in left
                else "not needed",
            }
            for s in self.plan.stages.values()
        ]
        return pd.DataFrame(rows, columns=["key", "kind", "component", "title", "state"])

    def __repr__(self) -> str:
        return (
            f"<plan of {self.plan.suite.name}: {len(self.plan.cells)} cells, {len(self.plan.stages)} stages, "
            f"{self.outstanding} to do>"
        )


#: Columns of `Results.frame`: `key` and `status` are the cell's; `variant` says what a number was set to otherwise
#: than the suite's own setting, of several experiments of one name, as on a leaderboard; "" for the main one.
RESULT_COLUMNS = (
    "suite", "scale", "dataset", "budget", "fold", "seed", "scheme", "student", "teacher", "tap", "reducer",
    "metric", "value_name", "value", "setting", "primary", "variant", "key", "status",
)  # fmt: skip


def _variants(cells: Sequence[CellRecord], suite: Suite) -> Callable[[CellRecord, Result], str]:
    """Names what a result was set to, as the leaderboard's rows do.

    A result that no row counts, for a newer cell of the same fold has it too, is named by its cell's training.
    """
    from kdbench.leaderboard.grouping import placed, variants
    from kdbench.leaderboard.samples import samples

    known = placed(cells)
    labels = variants(known, suite)
    of_cell = {p.cell.key: labels[p.experiment, p.cell.budget] for p in known}
    counted = {
        (cell.key, *sample.measured): sample.variant
        for sample in samples(cells, suite)
        for cell in sample.cells.values()
    }

    def variant_of(cell: CellRecord, r: Result) -> str:
        place = (cell.key, r.metric, r.value_name, r.tap, r.reducer, r.setting)
        return counted.get(place, of_cell[cell.key])

    return variant_of


@dataclass(frozen=True)
class Results:
    """Cells of one suite and scale.

    Attributes:
        suite: as it was run. cells: `kdbench.api.CellRecord`, one a dataset x budget x fold x scheme.
        executed, found: stages of the run; 0 where nothing was run. files: what it wrote.
        unchanged: the suite without what was changed in it, which claims are about; None: there is no such suite.
    """

    suite: Suite = field(repr=False)
    cells: list[CellRecord] = field(repr=False)
    registry: Registry = field(repr=False)
    executed: int = 0
    found: int = 0
    files: tuple[Path, ...] = ()
    unchanged: Suite | None = field(default=None, repr=False)

    @property
    def failed(self) -> list[CellRecord]:
        """The failed cells; `error` of each is its traceback."""
        return [c for c in self.cells if c.status == "failed"]

    def frame(self) -> pd.DataFrame:
        """One row a result of a cell; see `RESULT_COLUMNS`. `tap` and `reducer` are None where none is involved.

        A workspace may hold several settings of one suite: take one `variant`, or group by it, before a mean. What
        several cells have of one fold (a network that was measured for two lists of metrics) stands here once, as
        the newest finished one has it: a leaderboard counts it so.
        """
        import pandas as pd

        from kdbench.leaderboard import completed

        own = (*RESULT_COLUMNS[:9], "key", "status")
        variant_of = _variants(self.cells, completed(self.suite, self.registry))
        rows: dict[tuple, dict[str, Any]] = {}
        for cell in sorted(self.cells, key=lambda c: (c.status == "finished", c.created)):
            about = {name: getattr(cell, name) for name in own}
            for result in cell.results:
                row = {**about, **vars(result), "variant": variant_of(cell, result)}
                measured = tuple(
                    row[c] for c in RESULT_COLUMNS if c not in ("value", "primary", "key", "status")
                )
                rows[measured] = row
        return pd.DataFrame(list(rows.values()), columns=list(RESULT_COLUMNS))

    def leaderboard(self) -> pd.DataFrame:
        """The leaderboard's rows: means over folds with 95 % intervals, paired differences to the undistilled
        student, the published numbers beside. Columns: `kdbench.leaderboard.COLUMNS`."""
        import pandas as pd

        from kdbench.leaderboard import COLUMNS, collate, completed

        rows = collate(self.cells, completed(self.suite, self.registry))
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def claims(self) -> pd.DataFrame:
        """The verdict on each claim of the suite: one row a claim."""
        import pandas as pd

        from kdbench.leaderboard import completed, evaluate

        whole = completed(self.suite, self.registry)
        unchanged = completed(self.unchanged, self.registry) if self.unchanged is not None else None
        return pd.DataFrame([v.to_json() for v in evaluate(self.cells, whole, unchanged=unchanged)])

    def compare(self, a: str, b: str, *, metrics: Sequence[str] = (), every: bool = False) -> pd.DataFrame:
        """Two schemes or students side by side, paired by fold; what `kdbench compare` prints.

        Args: `kdbench.leaderboard.compare.compare`.

        Returns:
            One row a measurement that both have.

        Raises:
            UsageError: there is no such scheme or student. WorkspaceError: nothing pairs.
        """
        import pandas as pd

        from kdbench.leaderboard import completed
        from kdbench.leaderboard.compare import compare, side
        from kdbench.session.execute import directions_of

        found = compare(
            side(a, self.cells),
            side(b, self.cells),
            suites={(self.suite.name, self.suite.scale): completed(self.suite, self.registry)},
            metrics=tuple(metrics),
            directions=directions_of(self.registry),
            every=every,
        )
        return pd.DataFrame([row.to_json() for row in found.rows])

    def __len__(self) -> int:
        return len(self.cells)
