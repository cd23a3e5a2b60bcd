"""`kdbench plan`: what a run would do."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
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

    from kdbench.session.estimate import WorkLeft
    from kdbench.session.prepare import Session


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
    from kdbench.session.estimate import work_left

    plan = session.plan
    left = {s.key for s in session.outstanding}
    work = work_left(session.store, session.outstanding, session.device)
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
        "estimate": {
            "seconds": round(sum(w.seconds for w in work)),
            "from_records": all(w.measured for w in work),
            "work": [asdict(w) | {"seconds": w.seconds} for w in work],
        },
        "exclusions": list(plan.exclusions),
        "problem": str(session.problem) if session.problem else None,
    }  # fmt: skip


def cost_cells(work: list[WorkLeft]) -> tuple[str, ...]:
    """The work left of one kind, what a unit of it costs, what that comes to; a guess has a question mark."""
    from kdbench.session.prepare import duration

    if not work:
        return ()
    seconds, units = sum(w.seconds for w in work), sum(w.work for w in work)
    guess = "" if all(w.measured for w in work) else " ?"
    unit = work[0].unit
    # one stage is one piece of work: "130 stages" would be what the column before says
    amount = "" if unit == "stage" else f"{amount_of(units)} {unit}"
    if not units:  # targets of no images, where every one has a label
        return amount, "", duration(seconds)
    return amount, f"{seconds_of(seconds / units)}{guess}", duration(seconds)


def amount_of(number: float) -> str:
    """Three digits of a large number: 950, 12.5 k, 288 M."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def seconds_of(seconds: float) -> str:
    """Two digits of a time: 12 s, 0.3 s, 3.3 ms, 71 µs, 14 ns."""
    size, unit = next(
        ((s, u) for s, u in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")) if seconds >= 0.0995 * s), (1e-9, "ns")
    )
    number = seconds / size
    return f"{number:.0f} {unit}" if number >= 99.5 else f"{number:.2g} {unit}"


def basis(work: list[WorkLeft]) -> str:
    """What an estimate rests on."""
    if all(w.measured for w in work):
        return "by this workspace's records of this hardware"
    if any(w.measured for w in work):
        return "by this workspace's records of this hardware; ? rests on a rough guess, in part or whole"
    return "? is a rough guess for two cores: nothing like it was done here yet"


def plan_table(session: Session) -> Group:
    """A table of the kinds of stages, and what there is to say besides."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from kdbench.plan import KINDS
    from kdbench.session.estimate import work_left
    from kdbench.session.prepare import duration

    plan = session.plan
    every = Counter(s.kind for s in plan.stages.values())
    left = Counter(s.kind for s in session.outstanding)
    done = Counter(s.kind for s in plan.stages.values() if s.key in session.done)
    suite = plan.suite
    head = Text(f"{suite.name}", style="bold")
    head.append(f"  scale {suite.scale} · {plan.dataset} · {session.device}", style="default not bold")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("stage", no_wrap=True, min_width=10)
    work = work_left(session.store, session.outstanding, session.device)
    for name in ("stages", "done", "to do", *(("work", "at", "about") if work else ())):
        table.add_column(name, justify="right", no_wrap=True)
    for kind in KINDS:
        if every[kind]:
            counts = str(every[kind]), str(done[kind]), str(left[kind]) if left[kind] else "-"
            table.add_row(kind, *counts, *cost_cells([w for w in work if w.kind == kind]))
    counts = str(len(plan.stages)), str(len(session.done)), str(len(session.outstanding))
    seconds = sum(w.seconds for w in work)
    table.add_row("all", *counts, *(("", "", duration(seconds)) if work else ()), style="bold")
    schemes = Counter(c.scheme for c in plan.cells)
    cells = ", ".join(f"{n} {s}" for s, n in schemes.items())
    lines = [Text(f"{len(plan.cells)} results: {cells}")]
    lines += [Text(f"left out: {reason}", style="dim") for reason in plan.exclusions]
    if session.outstanding:
        if session.problem is not None:
            lines.append(Text(f"a run would stop: {session.problem.what}", style="yellow"))
            lines.append(Text(f"  hint: {session.problem.hint}", style="dim"))
        lines.append(Text(f"time: about {duration(seconds)} of work; {basis(work)}"))
    else:
        lines.append(Text("nothing to do: every stage is done"))
    return Group(head, table, *lines)
