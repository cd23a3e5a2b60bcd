"""A session carried out: stages executed, leaderboard and report written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench.errors import CellsFailed, PluginError, UsageError

if TYPE_CHECKING:
    from kdbench.api import Executor
    from kdbench.leaderboard.board import Board
    from kdbench.registry import Registry
    from kdbench.runner import Observer, RunReport
    from kdbench.session.observers import Tracking
    from kdbench.session.prepare import Session


def execute(
    session: Session,
    observers: Sequence[Observer],
    *,
    jobs: int = 1,
    executor: tuple[str, Mapping[str, Any]] | None = None,
) -> RunReport:
    """Execute what is outstanding and gather the records of all cells.

    Args:
        jobs: stages at once. executor: name and parameters; serial for one job, else processes, for None.
    """
    from kdbench.api import available_cores
    from kdbench.executors import Context
    from kdbench.runner import new_summary, run_plan

    cores = available_cores()
    name, params = executor or ("serial" if jobs == 1 else "processes", {})
    made: Executor = session.registry.create("executors", name, params, n_jobs=jobs, device=session.device)
    summary = new_summary(
        session.plan,
        session.store,
        device=session.device,
        threads=max(1, len(cores) // jobs),
        plugins=session.registry.versions(),
    )
    context = Context(
        session.store.root,
        session.places,
        session.registry.files,
        session.device,
        cores,
        session.registry,
        session.store,
    )
    made.start(context)
    return run_plan(session.plan, session.store, made, observers, summary)


def check_executor(registry: Registry, name: str, params: Mapping[str, Any], *, several: bool) -> None:
    """Look at an executor before anything is executed.

    Args:
        several: it is to execute several stages at once.

    Raises:
        UsageError: there is none of that name, or it does not take a number of jobs.
        PluginError: it does not meet `kdbench.api.Executor`. SuiteError: a parameter is wrong.
    """
    executor = registry.create("executors", name, params)
    where = f"executors/{name} ({registry.origin('executors', name)})"
    if missing := [
        m for m in ("start", "submit", "wait", "stop") if not callable(getattr(executor, m, None))
    ]:
        raise PluginError(
            f"{type(executor).__name__} has no method {missing[0]}",
            where=where,
            hint="see kdbench.api.Executor",
        )
    if several and "n_jobs" not in registry.parameters("executors", name):
        raise UsageError(
            f"the executor {name!r} does not take a number of jobs", where="--jobs", hint="leave --jobs out"
        )


def chosen_jobs(session: Session) -> tuple[int, str]:
    """Return the number of jobs that `--jobs auto` stands for, and one line that says how it was chosen."""
    from kdbench.api import available_cores
    from kdbench.executors.jobs import choose_jobs

    return choose_jobs(session.outstanding, device=session.device, cores=len(available_cores()))


def directions_of(registry: Registry) -> dict[str, bool | None]:
    """Metric name to whether higher is better, of all metrics that are installed."""
    return {spec.name: getattr(spec, "higher_is_better", None) for spec in registry.specs("metrics")}


def as_given(suite: str | Path, registry: Registry) -> str:
    """A suite as commands take it, with the one-file plugins that they need: "own.toml --plugin nets.py". Files by
    their names alone, for where they lie is this machine's affair."""
    files = [Path(info.origin).name for info in registry.plugins() if info.distribution == "file"]
    name = Path(suite).name if Path(suite).suffix == ".toml" else str(suite)
    return " ".join([name, *(f"--plugin {file}" for file in files)])


def conclude(session: Session, report: RunReport, tracking: Tracking | None) -> tuple[Board, list[Path]]:
    """Write leaderboard and report into the workspace, the report into the tracking store too."""
    from kdbench.leaderboard import completed
    from kdbench.leaderboard.build import board_of
    from kdbench.rendering.files import write

    suite, root = session.plan.suite, session.store.root
    whole = completed(suite, session.registry)
    before = session.unchanged()
    board = board_of(
        report.cells, suite.name, suite.scale, whole, directions_of(session.registry),
        unchanged=completed(before, session.registry) if before else None,
        given=as_given(session.source, session.registry),
    )  # fmt: skip
    paths = write(board, root / "leaderboards")
    paths += _report(session, report, board)
    if tracking is not None and tracking.failure is None and report.executed:
        tracking.tracker.log_files(report.summary, [p for p in paths if p.suffix == ".html"])
    return board, paths


def _report(session: Session, report: RunReport, board: Board) -> list[Path]:
    """The page of figures, of the cells that the leaderboard beside it is of; one that is there already is drawn
    again only when it shows something else, or a stage that it may have missed was executed."""
    from kdbench.rendering.export import rounded
    from kdbench.report import write_report
    from kdbench.session.prepare import load_data

    suite, root = session.plan.suite, session.store.root
    reference = suite.data.dataset
    return write_report(
        report.cells,
        suite=suite,
        out=root / "reports" / suite.name / suite.scale,
        store_root=root,
        leaderboard_rows=rounded([dict(row) for row in board.rows]),
        claims=[v.to_json() for v in board.claims],
        dataset=lambda: load_data(session.registry, reference.name, reference.params, session.places),
        changes=board.changes,
        again=bool(report.executed or report.failed),
    )


def raise_failed(report: RunReport) -> None:
    """Raises CellsFailed where a cell or a stage of the run failed."""
    broken = [c for c in report.cells if c.status == "failed"]
    if broken or report.failed:
        raise CellsFailed(
            f"{len(broken)} of {len(report.cells)} cells failed; all that does not hang on what failed is "
            "recorded, theirs too",
            where=_some(list(dict.fromkeys(s.title for s in report.failed))),
            hint="their tracebacks are in the tracking store and in the report; the same command tries them again",
        )


def _some(titles: list[str], most: int = 3) -> str:
    """The first few, and how many more there are."""
    rest = len(titles) - most
    return "; ".join(titles[:most]) + (f"; and {rest} more" if rest > 0 else "")
