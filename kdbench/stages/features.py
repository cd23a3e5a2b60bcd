"""Activations of a network at its taps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdbench.errors import SuiteError
from kdbench.plan.fields import FeaturesFields
from kdbench.stages.networks import architecture_of, normalization, trained_network
from kdbench.stages.task import Task
from kdbench.store import Draft
from kdbench.training.data import ImageSource
from kdbench.training.evaluate import activations


def run(task: Task, draft: Draft) -> None:
    """Arrays: one a tap, (n, d), of the test images that are embedded, float16 where that holds them (`kept_in`);
    `rows`.

    Raises OverflowError if an activation is not finite.
    """
    data, fields = task.dataset(), task.fields(FeaturesFields)
    architecture = architecture_of(task)
    network = task.input("network")
    model = trained_network(task, network, architecture, data)
    known = architecture.taps(model)
    taps = {tap: known[tap] for tap in check_taps(fields.taps, known, task.stage.component)}
    rows = fields.test.test(data)
    images = ImageSource(data.test.images, rows, normalization(architecture, data), device=task.device)
    done = 0

    def report(n: int) -> None:
        nonlocal done
        done += n
        task.progress(done, len(rows), "images")

    shapes = activations(
        model, images, taps, precision=network.record["identity"]["recipe"]["precision"],
        allocate=draft.open_array, progress=report,
    )  # fmt: skip
    draft.array("rows", rows)
    draft.values["shapes"] = {tap: list(shape) for tap, shape in shapes.items()}


def check_taps(wanted: Sequence[str], known: Any, where: str) -> Sequence[str]:
    """The taps asked for. Raises SuiteError if the network has no such tap."""
    for tap in wanted:
        if tap not in known:
            raise SuiteError(f"no tap {tap!r}", where=where, hint="taps: " + ", ".join(known))
    return wanted
