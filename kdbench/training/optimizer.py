"""Optimiser, weight decay and learning-rate schedule of a recipe."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, Protocol

import torch
from torch import nn


class Recipe(Protocol):
    """The fields of `kdbench.suite.schema.Training` that the engine reads."""

    epochs: int
    steps: int | None
    batch_size: int
    optimizer: Literal["sgd", "adam"]
    learning_rate: float
    momentum: float
    nesterov: bool
    weight_decay: float
    weight_decay_on: Literal["all", "kernels"]
    schedule: Literal["step", "cosine", "cosine-7-16", "constant"]
    decay_every: int
    decay_factor: float
    compile: bool


def learning_rate(recipe: Recipe, epoch: int, progress: float) -> float:
    """Rate of a 0-based epoch.

    Parameters
    ----------
    recipe
        The recipe.
    epoch
        Number of the epoch, from 0.
    progress
        Share of the training that is done, 0..1; what the cosines go by. A half cosine falls to 0, "cosine-7-16" to
        0.195 of the first rate (FixMatch, section 2.3).

    Returns
    -------
    float
        The learning rate.
    """
    if recipe.schedule == "step":  # LW 4.2
        return recipe.learning_rate * recipe.decay_factor ** (epoch // recipe.decay_every)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
    if recipe.schedule == "cosine-7-16":
        return recipe.learning_rate * math.cos(7 * math.pi / 16 * progress)
    return recipe.learning_rate


def trained_parameters(*modules: nn.Module | None) -> list[nn.Parameter]:
    """Those with a gradient, each once, in the modules' order."""
    found = (p for m in modules if m is not None for p in m.parameters() if p.requires_grad)
    return list(dict.fromkeys(found))


def make_optimizer(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD or Adam over `parameters`, fused.

    With `weight_decay_on = "kernels"` vectors and scalars (biases, batch normalisation) do not decay.
    """
    parameters = list(parameters)
    if recipe.weight_decay_on == "kernels":
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        groups = [g for g in groups if g["params"]]
    else:
        groups = [{"params": parameters, "weight_decay": recipe.weight_decay}]
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, lr=recipe.learning_rate, betas=(recipe.momentum, 0.999), fused=True)
    sgd = torch.optim.SGD(
        groups,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov and recipe.momentum > 0,
        fused=True,
    )
    if recipe.momentum:
        # PyTorch's fused step can't take parameters whose first gradient comes later than others'; from zeros the
        # momentum after a first step is that gradient, as PyTorch has it
        for p in parameters:
            sgd.state[p]["momentum_buffer"] = torch.zeros_like(p, memory_format=torch.preserve_format)
    return sgd
