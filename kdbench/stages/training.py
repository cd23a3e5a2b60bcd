"""What the stages that train have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from kdbench.api.draws import Fold, draw_fold
from kdbench.stages.task import Task
from kdbench.training.data import Augmentation, FeatureSource, ImageSource
from kdbench.training.evaluate import accuracy, predict


def recipe_of(fields: Mapping[str, Any]) -> Any:
    """A recipe from a stage's identity; precision is resolved there."""
    return SimpleNamespace(**fields)


def fold_of(task: Task, labels: np.ndarray, n_classes: int) -> Fold:
    """The images of the stage's fold."""
    draw = dict(task.identity["draw"])
    return draw_fold(np.asarray(labels), n_classes, **draw)


def augmentation_of(recipe: Any) -> Augmentation:
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
