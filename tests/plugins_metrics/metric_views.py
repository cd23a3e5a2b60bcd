"""Views for metric tests, with arrays in place of the engine's artifacts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from kdbench.api import exact_neighbours


def layer_view(X: np.ndarray, labels: Any = None, **more: Any) -> Any:
    """A view of a layer (n, d) with exact neighbours; `more`: other members."""
    X = np.asarray(X, np.float32)
    labels = np.zeros(len(X), np.int64) if labels is None else np.asarray(labels)
    return SimpleNamespace(
        features=X,
        labels=labels,
        tap="E",
        taps=("E",),
        features_at={"E": X}.__getitem__,
        neighbours=lambda k, metric="euclidean": exact_neighbours(X, k, metric),
        **more,
    )


def embedding_view(points: np.ndarray, X: np.ndarray | None = None, labels: Any = None) -> Any:
    """A view of an embedding (n, 2) of a layer."""
    points = np.asarray(points, np.float32)
    return layer_view(points if X is None else X, labels, embedding=SimpleNamespace(points=points))


def network_view(logits: Any, labels: Any, **more: Any) -> Any:
    """A view of a network's logits (n, c)."""
    return SimpleNamespace(logits=np.asarray(logits, np.float32), labels=np.asarray(labels), **more)


def clusters(seed: int, n: int, d: int, classes: int, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian classes: float32 (n, d), int64 (n,)."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    X = 2 * rng.standard_normal((classes, d))[labels] + noise * rng.standard_normal((n, d))
    return X.astype(np.float32), labels


def rotation(seed: int, d: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
