"""UMAP through umap-learn, on exact neighbours."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Literal

import numpy as np

from kdbench.api import Neighbours, check_choice, check_integer, check_number
from kdbench.api.data import NeighbourMetric
from kdbench_reducers._base import BaseReducer, seed_of, thread_count


def import_umap() -> ModuleType:
    """umap-learn without its ParametricUMAP.

    That one brings TensorFlow, Keras and torchvision into a process that holds PyTorch, which costs seconds
    and a GiB, and was seen to end the process with a segmentation fault. umap-learn does without where
    TensorFlow can't be imported, so for the moment of the import it can't.
    """
    if "umap" not in sys.modules:
        loaded = sys.modules.get("tensorflow")
        sys.modules["tensorflow"] = None  # type: ignore[assignment]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that ParametricUMAP is missing
                importlib.import_module("umap")
        finally:
            del sys.modules["tensorflow"]
            if loaded is not None:
                sys.modules["tensorflow"] = loaded
    return sys.modules["umap"]


@contextmanager
def kept_numpy_state(reseed: bool) -> Iterator[None]:
    """Put NumPy's global generator back afterwards: umap-learn draws from it when it is given no seed."""
    state = np.random.get_state()  # noqa: NPY002
    if reseed:
        np.random.seed(seed_of(None))  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


class UMAP(BaseReducer):
    """UMAP (McInnes et al. 2018) as umap-learn optimises it, with the fuzzy graph of exact neighbours.

    Parameters
    ----------
    n_components
        Dimensions of the embedding.
    n_neighbors
        Neighbours of the graph; umap-learn counts the point itself as the first.
    min_dist
        How near points may come, in units of the embedding; at most `spread`.
    spread
        Scale of the embedded points.
    metric
        "euclidean", or "angular": the Euclidean distance between rows of unit length.
    n_epochs
        Optimisation epochs; None: 500 up to 10,000 rows, 200 above.
    init
        "spectral", "pca" or "random".
    pca
        See so many principal components in place of the rows; None: the rows. See `BaseReducer`.
    random_state
        Seed; the optimisation then runs on one thread. None: a fresh seed each time, on `n_jobs` threads whose races
        make it unrepeatable.
    n_jobs
        Threads where there is no seed; None: as the process is set, -1: all.
    """

    component = "umap"

    def __init__(
        self,
        *,
        n_components: int = 2,
        n_neighbors: int = 15,
        min_dist: float = 0.1,
        spread: float = 1.0,
        metric: NeighbourMetric = "euclidean",
        n_epochs: int | None = None,
        init: Literal["spectral", "pca", "random"] = "spectral",
        pca: int | None = None,
        random_state: int | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.min_dist = min_dist
        self.spread = spread
        self.metric = metric
        self.n_epochs = n_epochs
        self.init = init
        self.pca = pca
        self.random_state = random_state
        self.n_jobs = n_jobs
        self._check()

    def _check(self) -> None:
        super()._check()
        check_integer("n_components", self.n_components, at_least=1)
        check_integer("n_neighbors", self.n_neighbors, at_least=2)
        check_number("min_dist", self.min_dist, at_least=0)
        check_number("spread", self.spread, above=0)
        if self.min_dist > self.spread:
            raise ValueError(f"min_dist={self.min_dist!r}: allowed are 0 to spread={self.spread!r}")
        check_choice("metric", self.metric, ("euclidean", "angular"))
        check_integer("n_epochs", self.n_epochs, at_least=1, optional=True)
        check_choice("init", self.init, ("spectral", "pca", "random"))

    def neighbours_wanted(self, n_samples: int) -> tuple[int, NeighbourMetric]:
        """n_neighbors - 1: the point itself is the first of them.

        Raises UsageError if there are not so many; umap-learn would take fewer.
        """
        if self.n_neighbors >= n_samples:
            raise self._too_few(
                f"n_neighbors={self.n_neighbors} of {n_samples} rows",
                f"n_neighbors can be at most {n_samples - 1} here",
            )
        return self.n_neighbors - 1, self.metric

    def _fit(self, X: np.ndarray, neighbours: Neighbours | None) -> np.ndarray:
        assert neighbours is not None
        umap = import_umap()
        if self.metric == "angular":  # what umap-learn reads of X itself must be of the same geometry
            length = np.linalg.norm(X, axis=1, keepdims=True)
            X = X / np.where(length > 0, length, 1)
        own = np.arange(len(X), dtype=np.int32)[:, None]
        indices = np.hstack([own, neighbours.indices])
        distances = np.hstack([np.zeros(own.shape, np.float32), neighbours.distances])
        model = umap.UMAP(
            n_components=self.n_components,
            n_neighbors=self.n_neighbors,
            min_dist=self.min_dist,
            spread=self.spread,
            metric="euclidean",
            n_epochs=self.n_epochs,
            init=self.init,
            random_state=self.random_state,
            n_jobs=thread_count(self.n_jobs) if self.random_state is None else 1,
            precomputed_knn=(indices, distances),
        )
        with warnings.catch_warnings(), kept_numpy_state(reseed=self.random_state is None):
            # No search index comes with exact neighbours: it serves umap-learn's transform alone, unused
            # here.
            warnings.filterwarnings("ignore", message="precomputed_knn", category=UserWarning)
            return model.fit_transform(X)
