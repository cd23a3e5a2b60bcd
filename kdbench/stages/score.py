"""A metric of a network, a layer or an embedding."""

from __future__ import annotations

import math

from kdbench.api.data import MetricResult
from kdbench.api.draws import draw_test
from kdbench.stages.reducers import suite_reducers
from kdbench.stages.task import Task
from kdbench.store import Draft
from kdbench.view import ArtifactView


def run(task: Task, draft: Draft) -> None:
    """Values: the metric's named scalars, its setting; arrays and figures as it names them.

    Raises:
        TypeError, ValueError: the metric returned something else than finite named numbers and figures.
    """
    data, identity = task.dataset(), task.identity
    reference = task.stage.options["metric"]
    metric = task.registry.create("metrics", reference["name"], reference["params"])
    view = ArtifactView(
        data,
        draw_test(data.test.labels, data.n_classes, **identity["test"]),
        network=task.input("network"),
        tap=identity["tap"],
        features=task.input("features") if task.has("features") else None,
        embedding=task.input("embedding") if task.has("embedding") else None,
        neighbours=task.input("neighbours") if task.has("neighbours") else None,
        reducers=suite_reducers(task) if "reducers" in identity else None,
    )
    result = metric(view)
    if not isinstance(result, MetricResult):
        raise TypeError(f"{task.stage.component} returned {type(result).__name__}, not a MetricResult")
    values = {k: float(v) for k, v in result.values.items()}
    bad = {k: v for k, v in values.items() if not math.isfinite(v)}
    if bad:
        raise ValueError(f"{task.stage.component} returned {bad}; a value that does not exist is left out")
    for name, array in result.arrays.items():
        draft.array(name, array)
    for name, figure in result.figures.items():
        if not callable(getattr(figure, "savefig", None)):
            raise TypeError(f"{task.stage.component}: figure {name!r} is a {type(figure).__name__}")
        draft.figure(name, figure)
    draft.values |= {
        "values": values,
        "setting": result.setting,
        "arrays": sorted(result.arrays),
        "figures": sorted(result.figures),
    }
