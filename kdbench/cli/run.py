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

if TYPE_CHECKING:
    from kdbench.runner import Observer, RunReport
    from kdbench.session.observers import Tracking
    from kdbench.session.prepare import Session


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
    from kdbench.cli.options import console, warn
    from kdbench.cli.plan import plan_table
    from kdbench.cli.session import prepare
    from kdbench.session.execute import check_executor, chosen_jobs, raise_failed
    from kdbench.session.observers import Tracking
    from kdbench.tracking import Tracker

    session = prepare(
        suite, scale=scale, overrides=overrides, plugin_files=plugin_files, workspace=workspace, data_dir=data_dir,
        seed=seed, device=device,
    )  # fmt: skip
    tracker = Tracker(tracking_uri, session.store.root)
    if executor is not None:
        check_executor(session.registry, *executor, several=jobs != 1)
    idle = not session.outstanding
    tracker.check()
    tracking = Tracking(tracker, idle=idle, warn=warn)
    if not as_json:
        console().print(plan_table(session))
    with terminable():
        if jobs is None:
            jobs, sentence = chosen_jobs(session)
            console(stderr=as_json).print(sentence, soft_wrap=True)
        report = _execute(session, tracking, jobs, executor, quiet=as_json)
    _conclude(session, report, tracking, as_json=as_json)
    if tracking.failure is not None:
        raise tracking.failure
    raise_failed(report)


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
    jobs: int,
    named: tuple[str, dict[str, Any]] | None,
    *,
    quiet: bool,
) -> RunReport:
    from kdbench.cli.options import warn
    from kdbench.cli.progress import BarProgress, LineProgress
    from kdbench.session.estimate import stage_seconds
    from kdbench.session.execute import execute
    from kdbench.session.observers import Hooks

    observers = [tracking, Hooks(session.registry, warn)]
    if not quiet:
        weights = stage_seconds(session.store, session.outstanding, session.device)
        make = BarProgress if sys.stderr.isatty() else LineProgress
        observers.insert(0, make(weights, len(session.outstanding)))
    return execute(session, observers, jobs=jobs, executor=named)


def _conclude(session: Session, report: RunReport, tracking: Tracking, *, as_json: bool) -> None:
    """Write leaderboard and report, and tell what came out."""
    from kdbench.cli.options import console, echo_json
    from kdbench.rendering.export import rounded
    from kdbench.rendering.terminal import claims_table, terminal_table
    from kdbench.session.execute import conclude, directions_of
    from kdbench.session.prepare import duration

    suite = session.plan.suite
    board, paths = conclude(session, report, tracking)
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
    if board.changes:
        out.print("otherwise than in the suite file: " + "; ".join(board.changes), style="dim")
    for sentence in report.warnings:
        out.print(f"warning: {sentence}", style="yellow")
    out.print(
        f"{report.executed} stages done in {duration(report.seconds)}, {report.cached} found done"
        + (f", {len(report.failed)} failed" if report.failed else "")
        + (f", {report.skipped} left out that need them" if report.skipped else "")
    )
    for name, path in zip(("leaderboard", "report"), shown, strict=True):
        if path is not None:
            out.print(f"{name + ':':13}{_near(path)}", soft_wrap=True)
    out.print(f"{'tracking:':13}{tracking.tracker.uri}", soft_wrap=True)


def _near(path: Path) -> str:
    """Relative to the working folder where it lies below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd().resolve()))
    except ValueError:
        return str(path)
