"""Linear reducers: principal components and the negative control."""

from __future__ import annotations

from typing import Literal

import numpy as np

from kdbench.api import Neighbours, check_choice, check_integer
from kdbench_reducers._base import BaseReducer, seed_of


class PCA(BaseReducer):
    """The first principal components (scikit-learn's PCA on data that is centred first).

    Centring happens here, with a mean taken in float64, because scikit-learn's covariance solver subtracts
    the mean from a float32 product and loses small variances beside large means.

    Attributes set by fitting:
        diagnostics_: "explained_variance_ratio", of all components together, 0..1.

    Parameters
    ----------
    n_components
        Dimensions of the embedding.
    solver
        "auto" (randomized where the data is wide), "full" or "randomized".
    random_state
        Seed of the randomized solver; None: a fresh one.
    n_jobs
        Threads; None: as the process is set, -1: all.
    """

    component = "pca"

    def __init__(
        self,
        *,
        n_components: int = 2,
        solver: Literal["auto", "full", "randomized"] = "auto",
        random_state: int | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.solver = solver
        self.random_state = random_state
        self.n_jobs = n_jobs
        self._check()

    def _check(self) -> None:
        super()._check()
        check_integer("n_components", self.n_components, at_least=1)
        check_choice("solver", self.solver, ("auto", "full", "randomized"))

    def _fit(self, X: np.ndarray, neighbours: Neighbours | None) -> np.ndarray:
        from sklearn.decomposition import PCA as Components

        if self.n_components > min(X.shape):
            raise self._too_few(
                f"n_components={self.n_components} of {X.shape[0]} rows and {X.shape[1]} features",
                f"at most {min(X.shape)} components exist",
            )
        self.mean_ = X.mean(axis=0, dtype=np.float64).astype(np.float32)
        model = Components(self.n_components, svd_solver=self.solver, random_state=seed_of(self.random_state))
        points = model.fit_transform(X - self.mean_)
        self.components_ = model.components_
        # scikit-learn takes the mean of the centred data off too: what float32 left of it.
        self.mean_ = self.mean_ + model.mean_
        ratio = float(model.explained_variance_ratio_.sum())
        if np.isfinite(ratio):  # it does not exist for rows that are all alike
            self.diagnostics_["explained_variance_ratio"] = ratio
        return points

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Project new rows, (m, n_features), onto the components: float32, (m, n_components)."""
        return (self._new_points(X) - self.mean_) @ self.components_.T


class RandomProjection(BaseReducer):
    """Gaussian random projection: entries drawn from N(0, 1/n_components). The negative control.

    Attributes set by fitting:
        components_: float32, (n_components, n_features).

    Parameters
    ----------
    n_components
        Dimensions of the embedding.
    random_state
        Seed of the matrix; None: a fresh one.
    """

    component = "random-projection"

    def __init__(self, *, n_components: int = 2, random_state: int | None = None) -> None:
        self.n_components = n_components
        self.random_state = random_state
        self._check()

    def _check(self) -> None:
        super()._check()
        check_integer("n_components", self.n_components, at_least=1)

    def _fit(self, X: np.ndarray, neighbours: Neighbours | None) -> np.ndarray:
        rng = np.random.default_rng(seed_of(self.random_state))
        shape = (self.n_components, X.shape[1])
        self.components_ = rng.standard_normal(shape, dtype=np.float32) / np.float32(
            np.sqrt(self.n_components)
        )
        return X @ self.components_.T

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Project new rows, (m, n_features): float32, (m, n_components)."""
        return self._new_points(X) @ self.components_.T
