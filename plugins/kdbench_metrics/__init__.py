"""Metrics that belong to no one paper."""

from __future__ import annotations

from kdbench.api import MetricSpec, hookimpl


@hookimpl
def kdbench_metrics() -> list[MetricSpec]:
    return [
        MetricSpec(
            name="accuracy",
            target="kdbench_metrics.accuracy:Accuracy",
            summary="Top-1 and top-5 accuracy on the test set after the last epoch",
            reference="LW Table 1",
            needs=frozenset({"logits", "history"}),
            primary="accuracy",
            higher_is_better=True,
            bounds=(0.0, 1.0),
        ),
    ]
