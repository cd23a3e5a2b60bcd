"""`kdbench run`: a suite from its plan to its leaderboard."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdbench.cli.options import (
    data_option,
    executor_option,
    jobs_option,
    json_option,
    plugin_option,
    scale_option,
    seed_option,
    set_option,
    tracking_option,
    workspace_option,
)
from kdbench.cli.plan import device_option
from kdbench.errors import CellsFailed, PluginError, UsageError

if TYPE_CHECKING:
    from kdbench.api import Executor
    from kdbench.cli.observers import Tracking
    from kdbench.cli.session import Session
    from kdbench.executors.auto import Choice
    from kdbench.registry import Registry
    from kdbench.runner import Observer, RunReport


@click.command()
@click.argument("suite")
@scale_option
@set_option
@workspace_option
@data_option
@plugin_option
@tracking_option
@seed_option
@device_option
@jobs_option
@executor_option
@json_option
def command(
    suite: str,
    scale: str | None,
    overrides: tuple[str, ...],
    workspace: Path,
    data_dir: Path | None,
    plugin_files: tuple[Path, ...],
    tracking_uri: str | None,
    seed: int,
    device: str | None,
    jobs: int | None,
    executor: tuple[str, dict[str, Any]] | None,
    as_json: bool,
) -> None:
    """Run SUITE, or go on where an earlier run of it stopped.

    Everything is checked before anything is trained. What is done already is found and not done again. Ends
    with the leaderboard and the verdict on each claim.
    """
    from kdbench.cli.observers import Tracking
    from kdbench.cli.options import console
    from kdbench.cli.plan import plan_table
    from kdbench.cli.session import prepare
    from kdbench.tracking import Tracker

    session = prepare(
        suite, scale=scale, overrides=overrides, plugin_files=plugin_files, workspace=workspace, data_dir=data_dir,
        seed=seed, device=device,
    )  # fmt: skip
    tracker = Tracker(tracking_uri, session.store.root)
    if executor is not None:
        check_executor(session.registry, *executor, several=jobs != 1)
    idle = not session.outstanding
    tracker.check(idle=idle)
    tracking = Tracking(tracker, idle=idle)
    if not as_json:
        console().print(plan_table(session))
    with terminable():
        if jobs is None:
            choice = chosen_jobs(session)
            console(stderr=as_json).print(choice.sentence, soft_wrap=True)
            jobs = choice.jobs
        report = _execute(session, tracking, plugin_files, jobs, executor, quiet=as_json)
    _conclude(session, report, tracking, as_json=as_json)
    if tracking.failure is not None:
        raise tracking.failure
    broken = [c for c in report.cells if c.status == "failed"]
    if broken or report.failed:
        raise CellsFailed(
            f"{len(broken)} of {len(report.cells)} cells failed; the others are finished and recorded",
            where=_some(list(dict.fromkeys(s.title for s in report.failed))),
            hint="their tracebacks are in the tracking store and in the report; the same command tries them again",
        )


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let a request to terminate end the work as Ctrl-C does, so that it leaves a clean store too."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _execute(
    session: Session,
    tracking: Observer,
    plugin_files: tuple[Path, ...],
    jobs: int,
    named: tuple[str, dict[str, Any]] | None,
    *,
    quiet: bool,
) -> RunReport:
    from kdbench.api import available_cores
    from kdbench.cli.observers import Hooks
    from kdbench.cli.progress import BarProgress, LineProgress
    from kdbench.cli.session import stage_seconds
    from kdbench.executors import Context
    from kdbench.runner import new_summary, run_plan

    cores = available_cores()
    name, params = named or ("serial" if jobs == 1 else "processes", {})
    executor: Executor = session.registry.create(
        "executors", name, params, n_jobs=jobs, device=session.device
    )
    observers = [tracking, Hooks(session.registry)]
    if not quiet:
        weights, _ = stage_seconds(session.store, session.outstanding, session.device)
        make = BarProgress if sys.stderr.isatty() else LineProgress
        observers.insert(0, make(weights, len(session.outstanding)))
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
        plugin_files,
        session.device,
        cores,
        session.registry,
        session.store,
    )
    executor.start(context)
    return run_plan(session.plan, session.store, executor, observers, summary)


def check_executor(registry: Registry, name: str, params: dict[str, Any], *, several: bool) -> None:
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


def chosen_jobs(session: Session) -> Choice:
    """What `--jobs auto` comes to for the stages that are still to be executed."""
    import platformdirs

    from kdbench.api import available_cores
    from kdbench.cli.session import load_data, stage_seconds
    from kdbench.executors.auto import choose_jobs

    seconds, _ = stage_seconds(session.store, session.outstanding, session.device)
    reference = session.plan.suite.data.dataset
    return choose_jobs(
        session.plan,
        session.outstanding,
        session.registry,
        load_data(session.registry, reference.name, reference.params, session.places),
        device=session.device,
        cores=available_cores(),
        seconds=sum(seconds.values()),
        cache=Path(platformdirs.user_cache_dir("kdbench", appauthor=False)) / "jobs",
    )


def _conclude(session: Session, report: RunReport, tracking: Tracking, *, as_json: bool) -> None:
    """Write leaderboard and report, and tell what came out."""
    from kdbench.cli.leaderboard import directions_of
    from kdbench.cli.options import console, echo_json
    from kdbench.cli.session import duration
    from kdbench.leaderboard import claims_table, completed, terminal_table
    from kdbench.leaderboard.build import board_of, write
    from kdbench.leaderboard.render import rounded
    from kdbench.report import write_report

    suite, root = session.plan.suite, session.store.root
    whole = completed(suite, session.registry)
    board = board_of(report.cells, suite.name, suite.scale, whole, directions_of(session.registry))
    paths = write(board, root / "leaderboards")
    paths += _report(session, report, board, write_report)
    if tracking.failure is None and report.executed:
        tracking.tracker.log_files(report.summary, [p for p in paths if p.suffix == ".html"])
    verdicts = [v.to_json() for v in board.claims]
    shown = [paths[0], next((p for p in paths if p.name == "report.html"), None)]
    if as_json:
        echo_json(
            {
                "run": report.summary.id,
                "suite": suite.name,
                "scale": suite.scale,
                "status": report.summary.status,
                "stages": {
                    "executed": report.executed,
                    "cached": report.cached,
                    "failed": len(report.failed),
                },
                "seconds": round(report.seconds, 1),
                "leaderboard": rounded([dict(row) for row in board.rows]),
                "claims": rounded(verdicts),
                "warnings": report.warnings,
                "files": [str(p) for p in paths],
                "tracking_uri": tracking.tracker.uri,
            }
        )
        return
    out = console()
    out.print()
    out.print(terminal_table(board.rows, directions_of(session.registry)))
    if board.claims:
        out.print(claims_table(board.claims))
    for sentence in report.warnings:
        out.print(f"warning: {sentence}", style="yellow")
    out.print(
        f"{report.executed} stages done in {duration(report.seconds)}, {report.cached} found done"
        + (f", {len(report.failed)} failed" if report.failed else "")
    )
    for name, path in zip(("leaderboard", "report"), shown, strict=True):
        if path is not None:
            out.print(f"{name + ':':13}{_near(path)}", soft_wrap=True)
    out.print(f"{'tracking:':13}{tracking.tracker.uri}", soft_wrap=True)


def _report(session: Session, report: RunReport, board: Any, write_report: Any) -> list[Path]:
    """The page of figures; made again only when there is something new to show."""
    from kdbench.leaderboard.render import rounded

    suite, root = session.plan.suite, session.store.root
    out = root / "reports" / suite.name / suite.scale
    page = out / "report.html"
    if page.exists() and not report.executed and not report.failed:
        return [page]
    return write_report(
        report.cells,
        suite=suite,
        out=out,
        store_root=root,
        leaderboard_rows=rounded([dict(row) for row in board.rows]),
        claims=[v.to_json() for v in board.claims],
    )


def _some(titles: list[str], most: int = 3) -> str:
    """The first few, and how many more there are."""
    rest = len(titles) - most
    return "; ".join(titles[:most]) + (f"; and {rest} more" if rest > 0 else "")


def _near(path: Path) -> str:
    """Relative to the working folder where it lies below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd().resolve()))
    except ValueError:
        return str(path)
