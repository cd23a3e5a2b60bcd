"""The triplet loss of ivis, and what a fit reports of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kdbench_reducers._ivis_names import LossVariant
from kdbench_reducers._ivis_triplets import fixed_triplets

DISTANCE_EPSILON = (
    1e-7  # Keras' epsilon: squared distances are held above it, so that the root has a gradient
)
TAIL = 20


@dataclass(frozen=True)
class TripletLoss:
    """Mean hinge over triplets of points.

    With distances ap, an, pn between anchor, positive and negative:

    - "both": mean of max(ap - an + margin, 0) and max(ap - pn + margin, 0); the package's `pn` from 2.0.0 on.
    - "min": max(ap - min(an, pn) + margin, 0); its `pn` up to 1.8.4.
    - "an": max(ap - an + margin, 0); its `euclidean`. With `squared`, LW equation 2 under a hinge.
    """

    variant: LossVariant = "both"
    squared: bool = False
    margin: float = 1.0

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """The scalar loss of (3, b, d) points: anchors, positives, negatives."""
        anchor, positive, negative = points
        ap, an = self._distance(anchor, positive), self._distance(anchor, negative)
        if self.variant == "an":
            return (ap - an + self.margin).relu().mean()
        pn = self._distance(positive, negative)
        if self.variant == "min":
            return (ap - torch.minimum(an, pn) + self.margin).relu().mean()
        return ((ap - an + self.margin).relu().mean() + (ap - pn + self.margin).relu().mean()) / 2

    def _distance(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        square = (x - y).square().sum(-1).clamp_min(DISTANCE_EPSILON)
        return square if self.squared else square.sqrt()

    def distance_and_slope(self, square: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Distances of squared differences |x - y|^2, and the factors that make x - y their gradients."""
        held = square.clamp_min(DISTANCE_EPSILON)
        free = (square >= DISTANCE_EPSILON).float()
        if self.squared:
            return held, 2 * free
        distance = held.sqrt()
        return distance, free / distance

    def of_distances(self, distance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum of the losses of b triplets, and its gradient with respect to their distances.

        Parameters
        ----------
        distance
            (3, b): ap, an, pn.

        Returns
        -------
        Tensor
            Loss by triplet.
        """
        ap, an, pn = distance
        if self.variant == "both":
            hinges = (ap - distance[1:] + self.margin).relu()
            active = (hinges > 0).float() / 2
            return hinges.sum() / 2, torch.cat([active.sum(0, keepdim=True), -active])
        if self.variant == "an":
            hinge, share = (ap - an + self.margin).relu(), torch.ones_like(an)
        else:
            hinge = (ap - torch.minimum(an, pn) + self.margin).relu()
            share = ((an < pn).float() + (an <= pn).float()) / 2  # half to each where they are equal
        active = (hinge > 0).float()
        return hinge.sum(), torch.stack([active, -active * share, -active * (1 - share)])


def fit_diagnostics(
    points: np.ndarray, lists: np.ndarray, history: Sequence[float], loss: TripletLoss, k: int
) -> dict[str, float]:
    """What the ivis reducers report, the same for the package and for PyTorch.

    The training loss is a mean over an epoch in which units are dropped and weights move, and stopping early
    selects a lucky minimum; so a loss without dropout on fixed triplets stands beside it. All of them depend
    on n and k before anything else.

    Parameters
    ----------
    points
        Embedding (n, d).
    lists
        Neighbours (n, k).
    history
        Loss by epoch.
    loss
        The loss.
    k
        Number of neighbours.

    Returns
    -------
    dict[str, float]
        loss_last, loss_min, loss_tail: of the training loss: last epoch, least, mean of the last 20 epochs.
        loss_eval: `loss` of the final points on the triplets of `fixed_triplets`, in float64. n_epochs, n, k: epochs
        trained, rows, the parameter k.
    """
    rows = torch.from_numpy(points.astype(np.float64))[torch.from_numpy(fixed_triplets(lists))]
    return {
        "loss_last": float(history[-1]),
        "loss_min": float(min(history)),
        "loss_tail": float(np.mean(history[-TAIL:])),
        "loss_eval": float(loss(rows)),
        "n_epochs": float(len(history)),
        "n": float(len(points)),
        "k": float(k),
    }
