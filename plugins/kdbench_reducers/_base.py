"""What all reducers here share: scikit-learn's habits, input checks, neighbours, seeds and threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from kdbench.api import Neighbours, check_integer, exact_neighbours
from kdbench.api.data import NeighbourMetric
from kdbench.errors import UsageError


class BaseReducer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A scikit-learn transformer; subclasses write `_check` and `_fit`.

    Attributes set by fitting:
        embedding_: float32, (n, d).
        n_features_in_: d of the input.
        diagnostics_: numbers that the fit reports of itself, a dict of floats.

    A subclass with a parameter `pca` sees the first so many principal components of the rows in their place:
    its neighbours are then those of the components. That is another method wherever a layer has more than a
    few directions that matter (50 components were seen to keep 14 % of the 15 nearest neighbours at an early
    layer of an untrained network, 65 % at that of a trained student), so it is off unless asked for, stands in
    the row's title, and `diagnostics_` says what it cost:

        pca_kept_neighbours: share of the exact neighbours of the rows (as many as `neighbours_wanted`) that
            are also neighbours of the components, 0..1.
        pca_explained_variance_ratio: of all components together, 0..1.
    """

    component: ClassVar[str] = ""
    random_state: int | None

    def _check(self) -> None:
        """Check the parameters in the constructor, and again when fitting because of `set_params`.

        Subclasses add their own parameters to those checked here.
        """
        check_integer("random_state", self.random_state, at_least=0, at_most=2**32 - 1, optional=True)
        check_integer("pca", getattr(self, "pca", None), at_least=1, optional=True)
        n_jobs = getattr(self, "n_jobs", None)
        if n_jobs != -1:
            try:
                check_integer("n_jobs", n_jobs, at_least=1, optional=True)
            except ValueError as error:
                raise ValueError(f"{error}, or -1 for all cores") from None

    def _fit(self, X: np.ndarray, neighbours: Neighbours | None) -> np.ndarray:
        """Embed the checked float32 `X`; sets fitted attributes; `diagnostics_` is {} before."""
        raise NotImplementedError

    def neighbours_wanted(self, n_samples: int) -> tuple[int, NeighbourMetric] | None:
        """(k, metric) of the exact neighbours that fitting `n_samples` rows uses, or None."""
        return None

    def fit(self, X: np.ndarray, y: object = None, *, neighbours: Neighbours | None = None) -> Self:
        """Fit to `X`, (n, n_features). `y` is not used; `neighbours` as in `fit_transform`."""
        self.fit_transform(X, neighbours=neighbours)
        return self

    def fit_transform(
        self, X: np.ndarray, y: object = None, *, neighbours: Neighbours | None = None
    ) -> np.ndarray:
        """Fit to `X` and return its embedding.

        Parameters
        ----------
        X
            (n, n_features), finite; taken as float32, never changed.
        y
            Not used.
        neighbours
            Exact neighbours of the rows of `X`, at least as many as `neighbours_wanted(n)` says and in that metric;
            None: they are computed. A reducer that wants none ignores them.

        Returns
        -------
        ndarray
            float32, (n, n_components).

        Raises
        ------
        ValueError
            a bad parameter, `X` not two-dimensional or not finite, or unfitting neighbours.
        kdbench.errors.UsageError
            Too few rows for the parameters.
        """
        self._check()
        data = self._input(X)
        pca = getattr(self, "pca", None)
        if pca is not None and pca > min(data.shape):
            raise self._too_few(
                f"pca={pca} of {data.shape[0]} rows and {data.shape[1]} features",
                f"at most {min(data.shape)} components exist",
            )
        wanted = self.neighbours_wanted(len(data))
        if wanted is None:
            neighbours = None
        elif neighbours is not None:
            neighbours = fitting(neighbours, len(data), *wanted)
        self.n_features_in_ = data.shape[1]
        self.diagnostics_: dict[str, float] = {}
        with limited_threads(getattr(self, "n_jobs", None)):
            if wanted is not None and neighbours is None:
                neighbours = exact_neighbours(data, *wanted)
            if pca is not None:
                data = self._components(data, pca)
                if wanted is not None and neighbours is not None:
                    near = exact_neighbours(data, *wanted)
                    self.diagnostics_["pca_kept_neighbours"] = kept_share(neighbours, near)
                    neighbours = near
            points = self._fit(data, neighbours)
        self.embedding_ = np.ascontiguousarray(points, dtype=np.float32)
        return self.embedding_.copy()

    def _components(self, X: np.ndarray, count: int) -> np.ndarray:
        """The first `count` principal components of `X`, (n, count); `pca_` is what maps new rows to them."""
        from kdbench_reducers.linear import PCA

        self.pca_ = PCA(n_components=count, random_state=self.random_state)
        components = self.pca_.fit_transform(X)
        for name, value in self.pca_.diagnostics_.items():
            self.diagnostics_[f"pca_{name}"] = value
        return components

    def _input(self, X: Any) -> np.ndarray:
        return check_array(X, dtype=np.float32, order="C", ensure_min_samples=2, estimator=self)

    def _new_points(self, X: Any) -> np.ndarray:
        """Checked input of `transform`, as principal components where the fit saw those."""
        check_is_fitted(self, "n_features_in_")
        data = check_array(X, dtype=np.float32, order="C", estimator=self)
        if data.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {data.shape[1]} features, {type(self).__name__} was fitted to {self.n_features_in_}"
            )
        return data if getattr(self, "pca", None) is None else self.pca_.transform(data)

    def _too_few(self, what: str, hint: str) -> UsageError:
        return UsageError(what, where=f"reducers/{self.component}", hint=hint)

    @property
    def _n_features_out(self) -> int:
        return int(self.embedding_.shape[1])


def fitting(neighbours: Neighbours, n: int, k: int, metric: NeighbourMetric) -> Neighbours:
    """The nearest `k` of `neighbours`. Raises ValueError if they are of other rows, another metric, or too few."""
    if neighbours.metric != metric:
        raise ValueError(f"neighbours are {neighbours.metric}, {metric} ones are needed")
    if len(neighbours.indices) != n:
        raise ValueError(f"neighbours of {len(neighbours.indices)} rows were given for {n} rows")
    if neighbours.k < k:
        raise ValueError(f"{neighbours.k} neighbours a row were given, {k} are needed")
    return neighbours.first(k)


def kept_share(before: Neighbours, after: Neighbours) -> float:
    """Share of the neighbours `before` that are neighbours `after`, 0..1; both (n, k) of the same rows."""
    n, k = before.indices.shape
    own = np.arange(n, dtype=np.int64)[:, None] * n  # makes of each pair of rows one number
    both = np.intersect1d(own + before.indices, own + after.indices, assume_unique=True)
    return len(both) / (n * k)


def seed_of(random_state: int | None) -> int:
    """The seed itself, or a fresh one from the system's entropy: no global generator is read or moved."""
    if random_state is not None:
        return int(random_state)
    return int(np.random.SeedSequence().generate_state(1)[0])


def thread_count(n_jobs: int | None) -> int:
    """None: what PyTorch is set to in this process; -1: every core this process may use."""
    if n_jobs is None:
        import torch

        return int(torch.get_num_threads())
    return len(os.sched_getaffinity(0)) if n_jobs == -1 else int(n_jobs)


@contextmanager
def limited_threads(n_jobs: int | None) -> Iterator[None]:
    """Hold PyTorch, BLAS and OpenMP to `n_jobs` threads inside the block; None changes nothing."""
    if n_jobs is None:
        yield
        return
    import torch
    from threadpoolctl import threadpool_limits

    before, count = torch.get_num_threads(), thread_count(n_jobs)
    with threadpool_limits(limits=count):
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)
