"""A metric of a network, a tap or an embedding."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

from kdbench.api.data import ImageData
from kdbench.evaluation.embeddings import reducing_functions
from kdbench.evaluation.scores import compute, linear_layer
from kdbench.evaluation.view import MetricView
from kdbench.plan.fields import ScoreFields
from kdbench.stages.artifacts import StoredNetwork, read_embedding, read_neighbours
from kdbench.stages.task import Task
from kdbench.store import Draft

if TYPE_CHECKING:
    import numpy as np


def run(task: Task, draft: Draft) -> None:
    """Values: the metric's named numbers and its setting; arrays and figures under the metric's names."""
    data, fields, reference = task.dataset(), task.fields(ScoreFields), task.reference("metric")
    spec = task.registry.spec("metrics", reference.name)
    rows = fields.test.test(data)

    def network(role: str, features: str) -> StoredNetwork:
        return StoredNetwork(task.input(role), task.input(features) if task.has(features) else None)

    def teacher(role: str, features: str = "") -> MetricView | None:
        if not task.has(role):
            return None
        stored = network(role, features)
        return MetricView(data, rows, stored, tap=fields.tap if stored.activations is not None else None)

    reducers = None
    if fields.reducers is not None and fields.seed is not None:
        reducers = reducing_functions(
            task.registry, task.stage.runtime.reducers, seed=fields.seed, threads=task.threads, device=task.device
        )  # fmt: skip
    view = MetricView(
        data,
        rows,
        network("network", "features"),
        tap=fields.tap,
        embedding=partial(read_embedding, task.input("embedding")) if task.has("embedding") else None,
        neighbours=partial(read_neighbours, task.input("neighbours")) if task.has("neighbours") else None,
        reducers=reducers,
        teacher=teacher("teacher", "teacher_features"),
        independent_teacher=teacher("independent_teacher"),
        head=partial(last_layer, task, data) if "head" in spec.needs else None,
        needs=spec.needs,
    )
    metric = task.registry.create("metrics", reference.name, reference.params)
    result = compute(metric, view, name=task.stage.component)
    for name, array in result.arrays.items():
        draft.array(name, array)
    for name, figure in result.figures.items():
        draft.figure(name, figure)
    draft.values |= {
        "values": dict(result.values),
        "setting": result.setting,
        "arrays": sorted(result.arrays),
        "figures": sorted(result.figures),
    }


def last_layer(task: Task, data: ImageData) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of the measured network's last linear layer. Raises DataError if its head is not linear."""
    from kdbench.stages.networks import architecture_of, head_of, trained_network

    architecture = architecture_of(task, "network")
    on_host = dataclasses.replace(task, device="cpu")  # no GPU is used to read one matrix
    model = trained_network(on_host, task.input("network"), architecture, data)
    return linear_layer(head_of(model, architecture.head(model)))
