"""A network's outputs, checked and in double precision, for the metrics of networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from kdbench.api import View


def outputs(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Read logits and labels.

    Parameters
    ----------
    view
        The inputs listed in the spec's `needs`.

    Returns
    -------
    tuple[ndarray, ndarray]
        Logits float64 (n, n_classes) and labels int64 (n,).

    Raises
    ------
    ValueError
        Logits and labels do not match, or logits are not finite.
    """
    logits, labels = np.asarray(view.logits, dtype=np.float64), np.asarray(view.labels, dtype=np.int64)
    if logits.ndim != 2 or logits.shape[0] != labels.shape[0] or not len(labels):
        raise ValueError(f"logits of shape {logits.shape} do not fit labels of shape {labels.shape}")
    if not np.isfinite(logits).all():
        raise ValueError("logits have values that are not finite")
    return logits, labels


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities of float64 logits (n, n_classes), without overflow."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
