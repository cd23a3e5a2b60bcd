"""`kdbench run`: run a suite and show its leaderboard."""

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
    device_option,
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

if TYPE_CHECKING:
    from kdbench.leaderboard.board import Board
    from kdbench.runner import Observer, RunReport
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
    """Run SUITE, or resume an earlier run of it.

    Everything is checked before anything is trained. Stages whose results are in the workspace are not repeated.
    At the end the leaderboard and the verdict on each claim are shown.
    """
    from kdbench.cli.options import console, registry_from, warn
    from kdbench.cli.plan import plan_table
    from kdbench.locations import data_places
    from kdbench.session.execute import chosen_jobs, conclude, execute, raise_failures
    from kdbench.session.prepare import prepare
    from kdbench.suite import load_suite

    registry = registry_from(plugin_files)
    resolved = load_suite(suite, scale=scale, overrides=overrides, registry=registry)
    session = prepare(
        resolved, registry, workspace=workspace, places=data_places(data_dir), seed=seed, device=device,
        tracking=tracking_uri, executor=executor, jobs=jobs, warn=warn,
    )  # fmt: skip
    if not as_json:
        console().print(plan_table(session))
    with terminable():
        n_jobs, sentence = chosen_jobs(session)
        if sentence:
            console(stderr=as_json).print(sentence, soft_wrap=True)
        report = execute(session, [] if as_json else [_progress(session)], jobs=n_jobs)
    board, paths = conclude(session, report)
    if as_json:
        _echo(session, report, board, paths)
    else:
        _print(session, report, board, paths)
    raise_failures(session, report)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, so that it leaves a clean store too."""

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


def _progress(session: Session) -> Observer:
    from kdbench.cli.progress import BarProgress, LineProgress
    from kdbench.session.estimate import stage_seconds

    weights = stage_seconds(session.store, session.outstanding, session.device)
    make = BarProgress if sys.stderr.isatty() else LineProgress
    return make(weights, len(session.outstanding))


def _echo(session: Session, report: RunReport, board: Board, paths: list[Path]) -> None:
    """Print the results as JSON."""
    from kdbench.cli.options import echo_json
    from kdbench.rendering.export import rounded

    assert session.tracking is not None
    echo_json(
        {
            "run": report.summary.id,
            "suite": board.suite_name,
            "scale": board.scale,
            "status": report.summary.status,
            "stages": {
                "executed": report.executed,
                "cached": report.cached,
                "failed": len(report.failed),
            },
            "seconds": round(report.seconds, 1),
            "leaderboard": rounded([row.to_dict() for row in board.rows]),
            "claims": rounded([v.to_json() for v in board.claims]),
            "warnings": report.warnings,
            "files": [str(p) for p in paths],
            "tracking_uri": session.tracking.tracker.uri,
        }
    )


def _print(session: Session, report: RunReport, board: Board, paths: list[Path]) -> None:
    """Print leaderboard, verdicts, warnings, and where the files are."""
    from kdbench.cli.options import console
    from kdbench.rendering.numbers import duration
    from kdbench.rendering.terminal import claims_table, terminal_table

    assert session.tracking is not None
    out = console()
    out.print()
    out.print(terminal_table(board.rows, board.directions))
    if board.claims:
        out.print(claims_table(board.claims))
    if board.changes:
        out.print("overrides: " + "; ".join(board.changes), style="dim")
    for sentence in report.warnings:
        out.print(f"warning: {sentence}", style="yellow")
    counts = [f"{report.executed} run", f"{report.cached} cached"]
    counts += [f"{len(report.failed)} failed"] if report.failed else []
    counts += [f"{report.skipped} skipped"] if report.skipped else []
    out.print(f"{len(session.plan.stages)} stages: {', '.join(counts)}, {duration(report.seconds)}")
    shown = {"leaderboard": paths[0], "report": next((p for p in paths if p.name == "report.html"), None)}
    for name, path in shown.items():
        if path is not None:
            out.print(f"{name + ':':13}{_near(path)}", soft_wrap=True)
    out.print(f"{'tracking:':13}{session.tracking.tracker.uri}", soft_wrap=True)


def _near(path: Path) -> str:
    """Shorten a path below the working folder to a relative one."""
    try:
        return str(path.resolve().relative_to(Path.cwd().resolve()))
    except ValueError:
        return str(path)
