"""The training loop of ivis-torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from kdbench_reducers._ivis_loss import TripletLoss
from kdbench_reducers._ivis_names import Sampling
from kdbench_reducers._ivis_network import Encoder
from kdbench_reducers._ivis_step import Step
from kdbench_reducers._ivis_triplets import TripletSampler
from kdbench_reducers._scaling import Scaling

_EMBED_BYTES = 1 << 26  # of scaled rows at a time


@dataclass(frozen=True)
class Recipe:
    """How to train: see the parameters of `IvisTorch`. `patience` is in epochs."""

    loss: TripletLoss
    batch_size: int
    epochs: int
    patience: int
    learning_rate: float
    sampling: Sampling
    hard: bool


def train(
    encoder: Encoder,
    data: torch.Tensor,
    lists: torch.Tensor,
    recipe: Recipe,
    *,
    triplets: torch.Generator,
    dropout: int,
) -> list[float]:
    """Train `encoder` in place; the training loss of each epoch, NaN last where it was not finite.

    Parameters
    ----------
    encoder
        On one device; `data` (n, n_features), `lists` as of `neighbour_lists`.
    data
        On one device; `data` (n, n_features), `lists` as of `neighbour_lists`.
    lists
        On one device; `data` (n, n_features), `lists` as of `neighbour_lists`.
    recipe
        How to train.
    triplets
        a generator on that device.
    dropout
        Its seed.

    Returns
    -------
    list of float
        Loss by epoch.
    """
    n, size = len(data), recipe.batch_size
    sampler = TripletSampler(lists, batch_size=size, sampling=recipe.sampling, generator=triplets)
    step = make_step(encoder, data, size, recipe.loss, recipe.learning_rate, dropout)
    losses = torch.empty(sampler.batches, device=data.device)
    history: list[float] = []
    best, waited = math.inf, 0
    for _ in range(recipe.epochs):
        blocks = [rows.contiguous() for rows in sampler.epoch().split(size, dim=1)]
        for batch in sampler.order():
            rows = blocks[batch]
            hard = partial(hardest, rows=rows, lists=lists) if recipe.hard else None
            losses[batch] = step(rows, step.draw(rows.shape[1]), hard)
        history.append(float(losses.double().sum()) / n)  # the one wait for the device in an epoch
        if not math.isfinite(history[-1]):
            break
        # Keras' EarlyStopping: any new minimum counts, the last weights stay.
        if history[-1] < best:
            best, waited = history[-1], 0
        else:
            waited += 1
            if waited >= recipe.patience:
                break
    return history


def make_step(
    encoder: Encoder,
    data: torch.Tensor,
    batch_size: int,
    loss: TripletLoss,
    learning_rate: float,
    seed: int,
) -> Any:
    """The step of the device that `data` are on: a `CpuStep` or a `Step`."""
    if data.device.type != "cpu":
        return Step(encoder, data, batch_size, loss, learning_rate, seed)
    from kdbench_reducers._ivis_step_cpu import CpuStep  # numba takes long to import

    return CpuStep(encoder, data, batch_size, loss, learning_rate, seed)


def hardest(points: torch.Tensor, rows: torch.Tensor, lists: torch.Tensor) -> torch.Tensor:
    """int64, (b,): for each anchor the batch's negative nearest to it in `points` that is outside its list.

    Parameters
    ----------
    points
        (3, b, d).
    rows
        int64, (3, b), the triplets; their own negatives are always allowed.
    lists
        Candidates.

    Returns
    -------
    Tensor
        The hardest of them.
    """
    anchors, negatives = rows[0], rows[2]
    taken = (lists[anchors][:, None, :] == negatives[None, :, None]).any(-1) | (
        anchors[:, None] == negatives[None, :]
    )
    distance = torch.cdist(points[0], points[2])
    return distance.masked_fill(taken, math.inf).argmin(dim=1)


@torch.no_grad()
def embed(encoder: Encoder, scaling: Scaling, X: np.ndarray) -> np.ndarray:
    """float32, (n, d): rows of `X` scaled and encoded without dropout, a block at a time."""
    block = max(1, _EMBED_BYTES // (4 * X.shape[1]))
    blocks = [encoder(torch.from_numpy(scaling(X[i : i + block]))) for i in range(0, len(X), block)]
    return torch.cat(blocks).numpy()
