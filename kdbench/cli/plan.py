"""`kdbench plan`: show what a run would execute."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdbench.cli.options import (
    data_option,
    device_option,
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
    """Show the stages of a run of SUITE, which of them are cached, and how long the rest may take."""
    from kdbench.cli.options import console, echo_json, registry_from, warn
    from kdbench.locations import data_places
    from kdbench.session.prepare import prepare
    from kdbench.suite import load_suite

    registry = registry_from(plugin_files)
    resolved = load_suite(suite, scale=scale, overrides=overrides, registry=registry)
    session = prepare(
        resolved, registry, workspace=workspace, places=data_places(data_dir), seed=seed, device=device,
        plan_only=True, warn=warn,
    )  # fmt: skip
    if as_json:
        echo_json(plan_data(session))
    else:
        console().print(plan_table(session))


def plan_data(session: Session) -> dict[str, Any]:
    """Return the plan as JSON data."""
    from kdbench.session.estimate import work_left

    plan = session.plan
    states = session.states()
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
            {"key": s.key, "kind": s.kind, "component": s.component, "title": s.title, "state": states[s.key]}
            for s in plan.stages.values()
        ],
        "to_run": len(session.outstanding),
        "estimate": {
            "seconds": round(sum(w.seconds for w in work)),
            "from_records": all(w.measured for w in work),
            "work": [asdict(w) | {"seconds": w.seconds} for w in work],
        },
        "exclusions": list(plan.exclusions),
        "problem": str(session.problem) if session.problem else None,
    }  # fmt: skip


def cost_cells(work: list[WorkLeft]) -> tuple[str, ...]:
    """Format the work of one kind of stages, its time per unit and in total; guesses get a question mark."""
    from kdbench.rendering.numbers import duration

    if not work:
        return ()
    seconds, units = sum(w.seconds for w in work), sum(w.work for w in work)
    guess = "" if all(w.measured for w in work) else " ?"
    unit = work[0].unit
    # the column before shows the number of stages already
    amount = "" if unit == "stage" else f"{amount_of(units)} {unit}"
    if not units:  # targets of no images, because every image has a label
        return amount, "", duration(seconds)
    return amount, f"{seconds_of(seconds / units)}{guess}", duration(seconds)


def amount_of(number: float) -> str:
    """Format a large number with three digits: 950, 12.5 k, 288 M."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def seconds_of(seconds: float) -> str:
    """Format a time with two digits: 12 s, 0.3 s, 3.3 ms, 71 µs, 14 ns."""
    size, unit = next(
        ((s, u) for s, u in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")) if seconds >= 0.0995 * s), (1e-9, "ns")
    )
    number = seconds / size
    return f"{number:.0f} {unit}" if number >= 99.5 else f"{number:.2g} {unit}"


def basis(work: list[WorkLeft]) -> str:
    """Say what an estimate is based on."""
    if all(w.measured for w in work):
        return "estimated from this workspace's records of this hardware"
    if any(w.measured for w in work):
        return "estimated from this workspace's records of this hardware; ? is partly or fully a rough guess"
    return "? is a rough guess for two cores: this workspace has no records of similar stages"


def plan_table(session: Session) -> Group:
    """Lay out the plan as a table by kind of stage, followed by exclusions and the estimated time."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from kdbench.plan import KINDS
    from kdbench.rendering.numbers import duration
    from kdbench.session.estimate import work_left

    plan = session.plan
    stages = Counter(s.kind for s in plan.stages.values())
    to_run = Counter(s.kind for s in session.outstanding)
    cached = Counter(s.kind for s in plan.stages.values() if s.key in session.cached)
    suite = plan.suite
    head = Text(f"{suite.name}", style="bold")
    head.append(f"  scale {suite.scale} · {plan.dataset} · {session.device}", style="default not bold")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("stage", no_wrap=True, min_width=10)
    work = work_left(session.store, session.outstanding, session.device)
    for name in ("stages", "cached", "to run", *(("work", "at", "about") if work else ())):
        table.add_column(name, justify="right", no_wrap=True)
    for kind in KINDS:
        if stages[kind]:
            counts = str(stages[kind]), str(cached[kind]), str(to_run[kind]) if to_run[kind] else "-"
            table.add_row(kind, *counts, *cost_cells([w for w in work if w.kind == kind]))
    counts = str(len(plan.stages)), str(len(session.cached)), str(len(session.outstanding))
    seconds = sum(w.seconds for w in work)
    table.add_row("all", *counts, *(("", "", duration(seconds)) if work else ()), style="bold")
    schemes = Counter(c.scheme for c in plan.cells)
    cells = ", ".join(f"{n} {s}" for s, n in schemes.items())
    lines = [Text(f"{len(plan.cells)} results: {cells}")]
    lines += [Text(f"excluded: {reason}", style="dim") for reason in plan.exclusions]
    if session.outstanding:
        if session.problem is not None:
            lines.append(Text(f"can't be run yet: {session.problem.what}", style="yellow"))
            lines.append(Text(f"  hint: {session.problem.hint}", style="dim"))
        lines.append(Text(f"time: about {duration(seconds)} of work; {basis(work)}"))
    else:
        lines.append(Text("nothing to run: every stage is cached"))
    return Group(head, table, *lines)
