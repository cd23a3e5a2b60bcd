"""A network's outputs as metrics of whole networks need them: checked, in double precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from kdbench.api import View


def outputs(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Logits float64 (n, n_classes) and labels int64 (n,).

    Raises:
        ValueError: they do not fit each other, or logits are not finite.
    """
    logits, labels = np.asarray(view.logits, dtype=np.float64), np.asarray(view.labels, dtype=np.int64)
    if logits.ndim != 2 or logits.shape[0] != labels.shape[0] or not len(labels):
        raise ValueError(f"logits of shape {logits.shape} do not fit labels of shape {labels.shape}")
    if not np.isfinite(logits).all():
        raise ValueError("logits have values that are not finite")
    return logits, labels


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """log p of float64 logits (n, n_classes), without overflow."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
