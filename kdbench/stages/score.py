"""A metric of a network, a layer or an embedding."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import TYPE_CHECKING

from kdbench.api.data import ImageData, MetricResult
from kdbench.api.draws import draw_test
from kdbench.evaluation.view import ArtifactView
from kdbench.stages.reducers import suite_reducers
from kdbench.stages.task import Task
from kdbench.store import Draft

if TYPE_CHECKING:
    import numpy as np


def run(task: Task, draft: Draft) -> None:
    """Values: the metric's named scalars, its setting; arrays and figures as it names them.

    Raises:
        TypeError, ValueError: the metric returned something else than finite named numbers and figures.
    """
    data, identity = task.dataset(), task.identity
    reference = task.stage.options["metric"]
    spec = task.registry.spec("metrics", reference["name"])
    metric = task.registry.create("metrics", reference["name"], reference["params"])
    rows = draw_test(data.test.labels, data.n_classes, **identity["test"])

    def teacher(role: str, features: str = "") -> ArtifactView | None:
        if not task.has(role):
            return None
        known = task.input(features) if features and task.has(features) else None
        tap = identity["tap"] if known is not None else None
        return ArtifactView(data, rows, network=task.input(role), tap=tap, features=known)

    view = ArtifactView(
        data,
        rows,
        network=task.input("network"),
        tap=identity["tap"],
        features=task.input("features") if task.has("features") else None,
        embedding=task.input("embedding") if task.has("embedding") else None,
        neighbours=task.input("neighbours") if task.has("neighbours") else None,
        reducers=suite_reducers(task) if "reducers" in identity else None,
        teacher=teacher("teacher", "teacher_features"),
        independent_teacher=teacher("independent_teacher"),
        head=partial(last_layer, task, data) if "head" in spec.needs else None,
        needs=spec.needs,
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


def last_layer(task: Task, data: ImageData) -> tuple[np.ndarray, np.ndarray]:
    """Weight (n_classes, d) and bias (n_classes,) of the measured network's last linear layer, float32.

    Raises:
        DataError: the network's head is no linear layer.
    """
    import numpy as np

    from kdbench.stages.networks import architecture_of, head_of, trained_network

    architecture = architecture_of(task)
    on_host = dataclasses.replace(task, device="cpu")  # no GPU is touched to read one matrix
    model = trained_network(on_host, task.input("network"), architecture, data)
    head = head_of(model, architecture.head(model))
    weight = head.weight.detach().float().cpu().numpy()
    if head.bias is None:
        return weight, np.zeros(len(weight), np.float32)
    return weight, head.bias.detach().float().cpu().numpy()
