"""Triplets of ivis: which row is pulled to which, and which is pushed away."""

from __future__ import annotations

import numpy as np
import torch

from kdbench.api import Neighbours
from kdbench_reducers._ivis_names import Sampling


def neighbour_lists(neighbours: Neighbours, with_self: bool) -> np.ndarray:
    """int64, (n, m): the neighbours of each row, nearest first, after the row itself where `with_self`.

    The package's lists come from Annoy, which returns the queried row as its own nearest neighbour.
    """
    lists = neighbours.indices.astype(np.int64)
    if not with_self:
        return lists
    return np.hstack([np.arange(len(lists))[:, None], lists])


class TripletSampler:
    """Draws a whole epoch of triplets in a few tensor operations.

    An epoch has each row once as an anchor, in blocks of `batch_size` consecutive rows, as the package has.

    Parameters
    ----------
    lists
        int64, (n, m), candidates for the positive of each row, without repeats; from `neighbour_lists`.
    batch_size
        Rows of a batch.
    sampling
        "rank_per_batch" draws one column of `lists` for a whole batch (package from 2.0.5 on), "per_row" one for each
        row.
    generator
        On `lists`' device; nothing else is drawn from.
    """

    def __init__(
        self, lists: torch.Tensor, *, batch_size: int, sampling: Sampling, generator: torch.Generator
    ) -> None:
        self.lists = lists
        self.n, self.m = lists.shape
        self.sampling = sampling
        self.generator = generator
        self.rows = torch.arange(self.n, device=lists.device)
        self.batch = self.rows // batch_size
        self.batches = -(-self.n // batch_size)
        self.outside = Outside(lists)

    def _draw(self, high: int, count: int) -> torch.Tensor:
        return torch.randint(high, (count,), generator=self.generator, device=self.lists.device)

    def epoch(self) -> torch.Tensor:
        """int64, (3, n): anchors, positives, negatives; anchors are 0..n-1 in order."""
        if self.sampling == "rank_per_batch":
            rank = self._draw(self.m, self.batches)[self.batch]
        else:
            rank = self._draw(self.m, self.n)
        positives = self.lists[self.rows, rank]
        negatives = self.outside(self.rows, self._draw(self.outside.count, self.n))
        return torch.stack([self.rows, positives, negatives])

    def order(self) -> list[int]:
        """The batches of an epoch in random order."""
        shuffled = torch.randperm(self.batches, generator=self.generator, device=self.lists.device)
        return [int(i) for i in shuffled.tolist()]


class Outside:
    """Maps a uniform number to a uniform row that is neither the anchor nor in the anchor's list.

    With the taken rows of an anchor sorted, t_0 < t_1 < ..., the r-th free row is r + #{j: t_j - j <= r}:
    exact, and without the redrawing that takes ever longer as the lists fill the data.
    """

    def __init__(self, lists: torch.Tensor) -> None:
        n = len(lists)
        own = torch.arange(n, device=lists.device)[:, None]
        taken = lists if bool((lists[:, :1] == own).all()) else torch.cat([own, lists], dim=1)
        taken = taken.to(torch.int32).sort(dim=1).values
        self.shifted = taken - torch.arange(taken.shape[1], device=lists.device, dtype=torch.int32)
        self.count = n - taken.shape[1]
        if self.count < 1:
            raise ValueError(f"lists of {lists.shape[1]} neighbours leave no negative among {n} rows")

    def __call__(self, anchors: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        """The `r`-th free row of each anchor; both int64 (b,), 0 <= r < count."""
        before = torch.searchsorted(self.shifted[anchors], r[:, None].to(torch.int32), right=True)
        return r + before[:, 0]


def fixed_triplets(lists: np.ndarray, size: int = 200_000) -> np.ndarray:
    """int64, (3, size): the triplets that every fit to rows with these neighbours is measured on.

    Anchor, rank of the positive and negative are uniform; the seed is fixed, so that fits of different seeds,
    packages or devices are measured on the very same triplets.
    """
    rng = np.random.default_rng(20_211_110)
    n, m = lists.shape
    outside = Outside(torch.from_numpy(lists))
    anchors = rng.integers(n, size=size)
    positives = lists[anchors, rng.integers(m, size=size)]
    free = rng.integers(outside.count, size=size)
    negatives = np.concatenate(
        [
            outside(torch.from_numpy(anchors[i : i + 20_000]), torch.from_numpy(free[i : i + 20_000])).numpy()
            for i in range(0, size, 20_000)
        ]
    )
    return np.stack([anchors, positives, negatives])
