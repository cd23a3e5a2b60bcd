"""`kdbench plan`: what a run would do."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdbench.cli.options import (
    data_option,
    json_option,
    plugin_option,
    scale_option,
    seed_option,
    set_option,
    workspace_option,
)

if TYPE_CHECKING:
    from rich.console import Group

    from kdbench.facade.session import Session


def device_option(function: Any) -> Any:
    """Adds `device: str | None`."""
    return click.option(
        "--device", default=None, metavar="DEVICE", help="cpu or cuda; a GPU where there is one."
    )(function)


@click.command()
@click.argument("suite")
@scale_option
@set_option
@workspace_option
@data_option
@plugin_option
@seed_option
@device_option
@json_option
def command(
    suite: str,
    scale: str | None,
    overrides: tuple[str, ...],
    workspace: Path,
    data_dir: Path | None,
    plugin_files: tuple[Path, ...],
    seed: int,
    device: str | None,
    as_json: bool,
) -> None:
    """Say which stages a run of SUITE consists of, which are done, and how long the rest may take."""
    from kdbench.cli.options import console, echo_json
    from kdbench.cli.session import prepare

    session = prepare(
        suite, scale=scale, overrides=overrides, plugin_files=plugin_files, workspace=workspace, data_dir=data_dir,
        seed=seed, device=device, only_plan=True,
    )  # fmt: skip
    if as_json:
        echo_json(plan_data(session))
    else:
        console().print(plan_table(session))


def plan_data(session: Session) -> dict[str, Any]:
    """The plan as plain data."""
    from kdbench.facade.session import stage_seconds

    plan = session.plan
    left = {s.key for s in session.outstanding}
    seconds, measured = stage_seconds(session.store, session.outstanding, session.device)
    return {
        "suite": plan.suite.name,
        "scale": plan.suite.scale,
        "dataset": plan.dataset,
        "dataset_digest": plan.dataset_digest,
        "device": session.device,
        "cells": [
            {"key": c.key, "budget": c.budget, "fold": c.fold, "scheme": c.scheme, "student": c.student,
             "teacher": c.teacher, "network": c.network}
            for c in plan.cells
        ],
        "results": len(plan.cells),
        "stages": [
            {"key": s.key, "kind": s.kind, "component": s.component, "title": s.title,
             "state": "done" if s.key in session.done else "to do" if s.key in left else "not needed"}
            for s in plan.stages.values()
        ],
        "to_do": len(left),
        "estimate": {"seconds": round(sum(seconds.values())), "from_records": measured},
        "exclusions": list(plan.exclusions),
        "problem": str(session.problem) if session.problem else None,
    }  # fmt: skip


def plan_table(session: Session) -> Group:
    """A table of the kinds of stages, and what there is to say besides."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from kdbench.facade.session import duration, stage_seconds
    from kdbench.plan import KINDS

    plan = session.plan
    every = Counter(s.kind for s in plan.stages.values())
    left = Counter(s.kind for s in session.outstanding)
    done = Counter(s.kind for s in plan.stages.values() if s.key in session.done)
    suite = plan.suite
    head = Text(f"{suite.name}", style="bold")
    head.append(f"  scale {suite.scale} · {plan.dataset} · {session.device}", style="default not bold")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("stage")
    for name in ("stages", "done", "to do"):
        table.add_column(name, justify="right")
    for kind in KINDS:
        if every[kind]:
            table.add_row(kind, str(every[kind]), str(done[kind]), str(left[kind]) if left[kind] else "-")
    table.add_row(
        "all", str(len(plan.stages)), str(len(session.done)), str(len(session.outstanding)), style="bold"
    )
    schemes = Counter(c.scheme for c in plan.cells)
    cells = ", ".join(f"{n} {s}" for s, n in schemes.items())
    lines = [Text(f"{len(plan.cells)} results: {cells}")]
    lines += [Text(f"left out: {reason}", style="dim") for reason in plan.exclusions]
    if session.outstanding:
        seconds, measured = stage_seconds(session.store, session.outstanding, session.device)
        basis = (
            "from this workspace's records" if measured else "a rough guess: some stages have no record yet"
        )
        if session.problem is not None:
            lines.append(Text(f"a run would stop: {session.problem.what}", style="yellow"))
            lines.append(Text(f"  hint: {session.problem.hint}", style="dim"))
        lines.append(Text(f"time: about {duration(sum(seconds.values()))} ({basis})"))
    else:
        lines.append(Text("nothing to do: every stage is done"))
    return Group(head, table, *lines)
