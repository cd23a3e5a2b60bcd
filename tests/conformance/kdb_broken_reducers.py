"""Reducers that each break one promise, as published code has."""

from __future__ import annotations

import random
import threading

import numpy as np
import torch

from kdbench.api import ReducerSpec, exact_neighbours, hookimpl

DRAWN = random.Random(0)


class Sound:
    """Principal axes, by NumPy."""

    def __init__(
        self, *, n_components: int = 2, random_state: int | None = None, n_jobs: int | None = None
    ) -> None:
        self.n_components, self.random_state, self.n_jobs = n_components, random_state, n_jobs

    def fit_transform(self, X, neighbours=None):
        rows = np.array(X, np.float64)
        if rows.ndim != 2 or len(rows) < 2 or not np.isfinite(rows).all():
            raise ValueError(f"two finite rows or more are expected, not {rows.shape}")
        return self.embed(rows)

    def embed(self, rows):
        self.mean = rows.mean(0)
        self.axes = np.linalg.svd(rows - self.mean, full_matrices=False)[2][: self.n_components]
        return self.transform(rows)

    def transform(self, X):
        return (np.asarray(X, np.float64) - self.mean) @ self.axes.T


class OneColumnMore(Sound):
    def embed(self, rows):
        return np.c_[super().embed(rows), np.zeros(len(rows))]


class HasNaN(Sound):
    def embed(self, rows):
        points = super().embed(rows)
        points[3] = np.nan
        return points


class CentresItsInput(Sound):
    def fit_transform(self, X, neighbours=None):
        points = super().fit_transform(X)
        X -= X.mean(0)
        return points


class Unseeded(Sound):
    def embed(self, rows):
        return super().embed(rows) + DRAWN.gauss(0, 0.01)


class KeepsTheFirstMean(Sound):
    def embed(self, rows):
        before = getattr(self, "mean", None)
        points = super().embed(rows)
        return points if before is None else points + (self.mean - before)[:2]


class GlobalNumPy(Sound):
    def embed(self, rows):
        return super().embed(rows) + 0.01 * np.random.standard_normal((len(rows), 2))  # noqa: NPY002


class GlobalTorch(Sound):
    def embed(self, rows):
        return super().embed(rows) + 0.01 * torch.randn(len(rows), 2).numpy()


class SeedsNumPy(Sound):
    def embed(self, rows):
        np.random.seed(self.random_state)  # noqa: NPY002
        return super().embed(rows) + 0.01 * np.random.standard_normal((len(rows), 2))  # noqa: NPY002


class Prints(Sound):
    def embed(self, rows):
        print("epoch 1")  # noqa: T201
        return super().embed(rows)


class DoubleAlone(Sound):
    def fit_transform(self, X, neighbours=None):
        if X.dtype != np.float64:
            raise ValueError("Buffer dtype mismatch, expected 'double' but got 'float'")
        return super().fit_transform(X)


class SingleByItsBytes(Sound):
    """Takes the memory of any array for that of float32 rows."""

    def fit_transform(self, X, neighbours=None):
        if X.ndim != 2 or len(X) < 2 or not np.isfinite(X).all():
            raise ValueError("no rows")
        return super().fit_transform(np.frombuffer(X.tobytes(), np.float32)[: X.size].reshape(X.shape))


class ReadsMemory(Sound):
    """Takes any array for a contiguous one, as compiled code does that is handed a pointer."""

    def fit_transform(self, X, neighbours=None):
        base = X.base if X.base is not None and not X.flags.c_contiguous else X
        return super().fit_transform(np.ravel(base, order="K")[: X.size].reshape(X.shape))


class Races(Sound):
    """Blends rows with those of whichever thread comes first."""

    def embed(self, rows):
        if (self.n_jobs or 1) > 1:
            rows = rows[np.random.default_rng(threading.active_count()).permutation(len(rows))]
        return super().embed(rows)


class LooksAtNothing(Sound):
    def embed(self, rows):
        return np.random.default_rng(self.random_state).standard_normal((len(rows), 2))


class TakesNaN(Sound):
    def fit_transform(self, X, neighbours=None):
        return super().fit_transform(np.nan_to_num(X, posinf=0))


class IndexErrorOnFewRows(Sound):
    def fit_transform(self, X, neighbours=None):
        np.asarray(X)[5]
        return super().fit_transform(X)


class TakesAnything(Sound):
    def fit_transform(self, X, neighbours=None):
        return super().fit_transform(X) if np.ndim(X) == 2 and len(X) > 1 else np.zeros((len(X), 2))


class DividesByTheSpread(Sound):
    def embed(self, rows):
        with np.errstate(all="ignore"):
            points = super().embed(rows)
            return points / points.std()


class IgnoresNeighbours(Sound):
    def neighbours_wanted(self, n_samples):
        return 10, "euclidean"


class WantsTooMany(Sound):
    def neighbours_wanted(self, n_samples):
        return n_samples, "euclidean"


class UsesNeighbours(Sound):
    """Each row is its neighbours' mean."""

    def neighbours_wanted(self, n_samples):
        return 3, "euclidean"

    def fit_transform(self, X, neighbours=None):
        super().fit_transform(X)
        near = neighbours or exact_neighbours(X, min(3, len(X) - 1))
        return self.embed(np.asarray(X, np.float64)[near.indices].mean(1))


class Elsewhere(Sound):
    def transform(self, X):
        return super().transform(X) + (len(X) == 50)


class NoHistory(Sound):
    loss_history_ = ()


class ExpectedToFail(LooksAtNothing):
    expected_failed_checks = {"beats-random-projection": "it is a placebo"}  # noqa: RUF012


class ExpectedInVain(Sound):
    expected_failed_checks = {"finite": "it was not finite once"}  # noqa: RUF012


def spec(name: str, target: str, **more) -> ReducerSpec:
    return ReducerSpec(name=name, target=f"kdb_broken_reducers:{target}", summary=name, **more)


@hookimpl
def kdbench_reducers():
    return [
        spec("sound", "Sound", parametric=True),
        spec("uses-neighbours", "UsesNeighbours"),
        spec("one-column-more", "OneColumnMore"),
        spec("has-nan", "HasNaN"),
        spec("centres-its-input", "CentresItsInput"),
        spec("unseeded", "Unseeded"),
        spec("keeps-the-first-mean", "KeepsTheFirstMean"),
        spec("global-numpy", "GlobalNumPy"),
        spec("global-torch", "GlobalTorch"),
        spec("seeds-numpy", "SeedsNumPy"),
        spec("prints", "Prints"),
        spec("double-alone", "DoubleAlone"),
        spec("single-by-its-bytes", "SingleByItsBytes"),
        spec("reads-memory", "ReadsMemory"),
        spec("races", "Races"),
        spec("looks-at-nothing", "LooksAtNothing"),
        spec("takes-nan", "TakesNaN"),
        spec("index-error", "IndexErrorOnFewRows"),
        spec("takes-anything", "TakesAnything"),
        spec("divides-by-the-spread", "DividesByTheSpread"),
        spec("ignores-neighbours", "IgnoresNeighbours"),
        spec("wants-too-many", "WantsTooMany"),
        spec("elsewhere", "Elsewhere", parametric=True),
        spec("no-history", "NoHistory", loss_history=True),
        spec("expected-to-fail", "ExpectedToFail"),
        spec("expected-in-vain", "ExpectedInVain"),
        spec("lacks", "Sound", requires=("kdbench-no-such-package>=2",)),
    ]
