"""Execute a prepared session, then write its leaderboard and report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench.errors import CellsFailed

if TYPE_CHECKING:
    from kdbench.api import Executor
    from kdbench.leaderboard.board import Board
    from kdbench.runner import Observer, RunReport
    from kdbench.session.prepare import Session


def chosen_jobs(session: Session) -> tuple[int, str]:
    """Return the requested number of jobs; for `--jobs auto` choose one, with the reason in a sentence."""
    from kdbench.api import available_cores
    from kdbench.executors.jobs import choose_jobs

    if session.jobs is not None:
        return session.jobs, ""
    return choose_jobs(session.outstanding, device=session.device, cores=len(available_cores()))


def execute(session: Session, observers: Sequence[Observer] = (), *, jobs: int = 1) -> RunReport:
    """Execute the outstanding stages of a session and collect the records of all cells.

    Parameters
    ----------
    session
        The prepared session.
    observers
        Observers in addition to the tracking store and the hooks of plugins.
    jobs
        Number of stages at once (`chosen_jobs`).

    Returns
    -------
    RunReport
        The records, and how many stages were executed, cached and failed.
    """
    from kdbench.api import available_cores
    from kdbench.executors import Context
    from kdbench.runner import new_summary, run_plan
    from kdbench.session.observers import Hooks

    cores = available_cores()
    name, params = session.executor or ("serial" if jobs == 1 else "processes", {})
    executor: Executor = session.registry.create(
        "executors", name, params, n_jobs=jobs, device=session.device
    )
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
        session.datasets,
    )
    executor.start(context)
    tracking = [session.tracking] if session.tracking is not None else []
    observers = [*observers, *tracking, Hooks(session.registry, session.warn)]
    return run_plan(session.plan, session.store, executor, observers, summary, session.cached)


def conclude(session: Session, report: RunReport) -> tuple[Board, list[Path]]:
    """Write leaderboard and report into the workspace, and log the report to the tracking store.

    Parameters
    ----------
    session
        The prepared session.
    report
        What `execute` returned.

    Returns
    -------
    tuple
        The leaderboard, and the paths of all files.
    """
    from kdbench.rendering.files import write
    from kdbench.report import write_report
    from kdbench.session.leaderboards import leaderboard

    suite, root = session.plan.suite, session.store.root
    board = leaderboard(report.cells, session.resolved, session.registry)
    paths = write(board, root / "leaderboards")
    paths += write_report(
        report.cells,
        suite=suite,
        out=root / "reports" / suite.name / suite.scale,
        store_root=root,
        rows=board.rows,
        claims=board.claims,
        dataset=lambda: session.data,
        changes=board.changes,
        again=bool(report.executed or report.failed),
    )
    if session.tracking is not None and report.executed:
        session.tracking.log_report(report.summary, [p for p in paths if p.suffix == ".html"])
    return board, paths


def raise_failures(session: Session, report: RunReport, *, allow_failed_cells: bool = False) -> None:
    """Raise what went wrong during a run, after everything else is written.

    Parameters
    ----------
    session
        The executed session.
    report
        What `execute` returned.
    allow_failed_cells
        Accept failed cells.

    Raises
    ------
    WorkspaceError
        The tracking store was lost during the run.
    CellsFailed
        A cell or a stage failed.
    """
    if session.tracking is not None and session.tracking.failure is not None:
        raise session.tracking.failure
    failed = [c for c in report.cells if c.status == "failed"]
    if (failed or report.failed) and not allow_failed_cells:
        raise CellsFailed(
            f"{len(failed)} of {len(report.cells)} cells failed; all results that don't depend on a failed stage "
            "are recorded",
            where=_first(list(dict.fromkeys(s.title for s in report.failed))),
            hint="the tracebacks are in the tracking store and in the report; run the same command to try again",
        )


def _first(titles: list[str], limit: int = 3) -> str:
    """Join the first titles, and say how many more there are."""
    rest = len(titles) - limit
    return "; ".join(titles[:limit]) + (f"; and {rest} more" if rest > 0 else "")
