"""Functions shared by the stages that train."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

from kdbench.api.settings import Value
from kdbench.stages.task import Task
from kdbench.suite.schema import Training
from kdbench.training.data import Augmentation, FeatureSource, ImageSource
from kdbench.training.evaluate import accuracy, predict


def recipe_of(fields: Mapping[str, Value]) -> Training:
    """A recipe from the fields of a stage, where its precision is resolved."""
    return Training.model_construct(**fields)


def augmentation_of(recipe: Training) -> Augmentation:
    """The (weak) augmentation of a recipe."""
    return Augmentation(recipe.flip, recipe.shift, recipe.shift_fill)


def evaluator(
    network: Callable[[], nn.Module],
    splits: Mapping[str, tuple[ImageSource | FeatureSource, np.ndarray]],
    precision: str,
) -> Callable[[], dict[str, float]]:
    """Accuracy on each split, by its name, of the network that is there when it is called."""
    on_device = {k: (s, torch.as_tensor(np.asarray(y), device=s.device)) for k, (s, y) in splits.items()}

    def evaluate() -> dict[str, float]:
        return {
            f"{name}_accuracy": accuracy(predict(network(), source, precision=precision), labels)
            for name, (source, labels) in on_device.items()
        }

    return evaluate


def history_table(history: Mapping[str, list[float]]) -> dict[str, list[float | None]]:
    """Curves as JSON holds them: None where there is no number."""
    return {k: [None if math.isnan(x) else x for x in v] for k, v in history.items()}


def report_epochs(task: Task, epochs: int) -> Callable[[int, Mapping[str, float]], None]:
    """Progress in images seen; a scheme decides how many an epoch has, so the first one tells."""
    done = 0.0

    def report(seen: int, _losses: Mapping[str, float]) -> None:
        nonlocal done
        done += seen
        task.progress(done, max(seen * epochs, done), "images")

    return report
