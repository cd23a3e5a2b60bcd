"""The training loop of ivis-torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from kdbench_reducers._ivis_loss import TripletLoss
from kdbench_reducers._ivis_names import Sampling
from kdbench_reducers._ivis_network import Encoder
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
    dropout: torch.Generator,
) -> list[float]:
    """Train `encoder` in place; the training loss of each epoch, NaN last where it was not finite.

    Args:
        encoder, data, lists: on one device; `data` (n, n_features), `lists` as of `neighbour_lists`.
        triplets, dropout: generators on that device.
    """
    n, size = len(data), recipe.batch_size
    sampler = TripletSampler(lists, batch_size=size, sampling=recipe.sampling, generator=triplets)
    # Keras' Adam: epsilon 1e-7 where PyTorch's own default is 1e-8.
    adam = torch.optim.Adam(encoder.parameters(), lr=recipe.learning_rate, eps=1e-7, fused=True)
    history: list[float] = []
    best, waited = math.inf, 0
    for _ in range(recipe.epochs):
        epoch = sampler.epoch()
        total = torch.zeros((), device=data.device)
        for batch in sampler.order():
            rows = epoch[:, batch * size : (batch + 1) * size]
            points = encoder(data.index_select(0, rows.reshape(-1)), dropout).view(3, rows.shape[1], -1)
            if recipe.hard:
                points = torch.stack([points[0], points[1], points[2][hardest(points, rows, lists)]])
            loss = recipe.loss(points)
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
            total += loss.detach() * rows.shape[1]
        history.append(float(total) / n)  # the one wait for the device in an epoch
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


def hardest(points: torch.Tensor, rows: torch.Tensor, lists: torch.Tensor) -> torch.Tensor:
    """int64, (b,): for each anchor the batch's negative nearest to it in `points` that is outside its list.

    Args:
        points: (3, b, d); rows: int64, (3, b), the triplets; their own negatives are always allowed.
    """
    anchors, negatives = rows[0], rows[2]
    taken = (lists[anchors][:, None, :] == negatives[None, :, None]).any(-1) | (
        anchors[:, None] == negatives[None, :]
    )
    distance = torch.cdist(points[0].detach(), points[2].detach())
    return distance.masked_fill(taken, math.inf).argmin(dim=1)


@torch.no_grad()
def embed(encoder: Encoder, scaling: Scaling, X: np.ndarray) -> np.ndarray:
    """float32, (n, d): rows of `X` scaled and encoded without dropout, a block at a time."""
    block = max(1, _EMBED_BYTES // (4 * X.shape[1]))
    blocks = [encoder(torch.from_numpy(scaling(X[i : i + block]))) for i in range(0, len(X), block)]
    return torch.cat(blocks).numpy()
