"""Call a metric, and check the result."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kdbench.api.data import MetricResult
from kdbench.evaluation.view import MetricView


def compute(metric: Any, view: MetricView, *, name: str) -> MetricResult:
    """Call a metric.

    Parameters
    ----------
    metric
        The metric.
    view
        What it reads.
    name
        Names the metric in errors.

    Returns
    -------
    MetricResult
        With plain finite floats.

    Raises
    ------
    TypeError, ValueError
        The metric returned something other than finite named numbers and figures.
    """
    result = metric(view)
    if not isinstance(result, MetricResult):
        raise TypeError(f"{name} returned {type(result).__name__}, not a MetricResult")
    values = {key: float(value) for key, value in result.values.items()}
    if bad := {key: value for key, value in values.items() if not math.isfinite(value)}:
        raise NotFinite(f"{name} returned {bad}; a value that does not exist is left out")
    for key, figure in result.figures.items():
        if not callable(getattr(figure, "savefig", None)):
            raise TypeError(f"{name}: figure {key!r} is a {type(figure).__name__}")
    return MetricResult(values, result.arrays, result.setting, result.figures)


class NotFinite(ValueError):
    """A metric returned a number that is not finite."""


def linear_layer(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Weight (n_classes, d) and bias (n_classes,) of a linear layer, float32; zeros for a layer without bias."""
    weight = layer.weight.detach().float().cpu().numpy()
    if layer.bias is None:
        return weight, np.zeros(len(weight), np.float32)
    return weight, layer.bias.detach().float().cpu().numpy()
