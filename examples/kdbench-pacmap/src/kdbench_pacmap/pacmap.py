"""PaCMAP through the package of its authors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


class PaCMAP:
    """Pairwise controlled manifold approximation (Wang et al. 2021, section 5), as `pacmap.PaCMAP` computes it.

    Layers of more than 100 dimensions are first reduced to 100 by a truncated SVD, as the package does by default.

    Parameters
    ----------
    n_components
        Dimension of the embedding, >= 1; tested with 2 and 3.
    n_neighbors
        Nearest neighbours of each point that become near pairs, >= 1.
    mid_near_ratio
        Mid-near pairs per near pair, >= 0.
    further_ratio
        Further pairs per near pair, > 0.
    iterations
        Iterations of the three phases, each >= 0.
    learning_rate
        Learning rate of Adam, > 0.
    random_state
        Seed; None: a random one.
    n_jobs
        Threads, -1 for all; None: the current setting.

    Raises
    ------
    ValueError
        A parameter is out of range.
    """

    def __init__(
        self,
        *,
        n_components: int = 2,
        n_neighbors: int = 10,
        mid_near_ratio: float = 0.5,
        further_ratio: float = 2.0,
        iterations: tuple[int, int, int] = (100, 100, 250),
        learning_rate: float = 1.0,
        random_state: int | None = None,
        n_jobs: int | None = None,
    ) -> None:
        for name, value in (("n_components", n_components), ("n_neighbors", n_neighbors)):
            if value < 1:
                raise ValueError(f"{name}={value}: at least 1")
        for name, ratio in (("further_ratio", further_ratio), ("learning_rate", learning_rate)):
            if not ratio > 0:
                raise ValueError(f"{name}={ratio}: above 0")
        if not mid_near_ratio >= 0:
            raise ValueError(f"mid_near_ratio={mid_near_ratio}: at least 0")
        if len(iterations) != 3 or min(iterations) < 0:
            raise ValueError(f"iterations={iterations}: three numbers, each at least 0")
        self.n_components, self.n_neighbors = n_components, n_neighbors
        self.mid_near_ratio, self.further_ratio = mid_near_ratio, further_ratio
        self.iterations, self.learning_rate = iterations, learning_rate
        self.random_state, self.n_jobs = random_state, n_jobs

    def fit_transform(self, X: np.ndarray) -> np.ndarray:
        """Embed the rows of `X`.

        Parameters
        ----------
        X
            Features (n, n_features); not modified.

        Returns
        -------
        ndarray
            Points float32 (n, n_components).

        Raises
        ------
        ValueError
            Values are not finite, all rows are equal, or there are too few rows for the pairs.
        """
        rows = np.array(X, dtype=np.float32)
        self._refuse(rows)
        seed = self.random_state
        if seed is None:
            seed = int(np.random.default_rng().integers(2**31))
        with quiet(), threads(self.n_jobs):
            import pacmap

            model = pacmap.PaCMAP(
                n_components=self.n_components,
                n_neighbors=self.n_neighbors,
                MN_ratio=self.mid_near_ratio,
                FP_ratio=self.further_ratio,
                num_iters=tuple(self.iterations),
                lr=self.learning_rate,
                random_state=seed % 2**31,  # the package adds to it and uses signed 32 bits
            )
            points = model.fit_transform(rows, init="pca", save_pairs=False)
        return np.asarray(points, dtype=np.float32)

    def _refuse(self, rows: np.ndarray) -> None:
        """Reject few rows, for which the package would silently use fewer pairs."""
        if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
            raise ValueError(f"finite values of shape (n, n_features) are expected, not {rows.shape}")
        if (rows == rows[0]).all():
            raise ValueError("all rows are equal")
        pairs = self.n_neighbors * (1 + self.mid_near_ratio + self.further_ratio)
        fewest = max(int(pairs) + 2, self.n_components)
        if len(rows) < fewest or rows.shape[1] < self.n_components:
            what = (
                f"n_neighbors={self.n_neighbors}, n_components={self.n_components} with rows of {rows.shape}"
            )
            raise ValueError(f"{what}: at least {fewest} rows and {self.n_components} features are needed")


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the package's warning about fixed seeds."""
    log = logging.getLogger("pacmap.pacmap")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Limit numba to `n` threads, and restore the number afterwards."""
    import numba

    before = numba.get_num_threads()
    most = numba.config.NUMBA_NUM_THREADS
    numba.set_num_threads(before if n is None else most if n == -1 else min(max(n, 1), most))
    try:
        yield
    finally:
        numba.set_num_threads(before)
