"""Converged loss of an ivis embedding (LW section 5.3, Table 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdbench.api import MetricResult

if TYPE_CHECKING:
    from kdbench.api import Embedding, View

TAIL = 20  #: epochs in `tail20`; ivis' own patience


class IvisLoss:
    """How well a layer embeds: the training loss its ivis network ends with, lower is better.

    LW print "converged loss" without saying which epoch it is (assumption LW-A9); primary is the last one.

    Values:

    - ``last``: loss of the last epoch, dropout on, as ivis prints it; ``min``: the lowest of all epochs;
    - ``tail20``: mean of the last 20 epochs (of all, where there were fewer), less noisy than ``last``;
    - ``eval``: loss without dropout on one fixed set of triplets, where the reducer reports ``loss_eval``;
    - ``n_epochs``: epochs until it stopped.

    The loss depends on the number of points n and of neighbours k before anything else, so the setting is
    "n=..., k=..." and rows of different settings are never compared.
    """

    def __call__(self, view: View) -> MetricResult:
        """Measure `view`.

        Raises:
            ValueError: the reducer left no loss history, or one that is not finite.
        """
        embedding = view.embedding
        losses = np.asarray(embedding.loss_history, dtype=np.float64)
        if not losses.size:
            raise ValueError(
                f"reducer {embedding.reducer!r} left no loss history: ivis-loss does not apply to it"
            )
        if not np.isfinite(losses).all():
            raise ValueError(
                f"the loss of reducer {embedding.reducer!r} is not finite from epoch "
                f"{int(np.flatnonzero(~np.isfinite(losses))[0])} on"
            )
        values = {
            "last": float(losses[-1]),
            "min": float(np.min(losses)),
            "tail20": float(losses[-TAIL:].mean()),
            "n_epochs": float(losses.size),
        }
        if "loss_eval" in embedding.diagnostics:
            values["eval"] = float(embedding.diagnostics["loss_eval"])
        return MetricResult(values, {"loss": losses}, setting=_setting(embedding))


def _setting(embedding: Embedding) -> str:
    text = f"n={len(embedding.points)}"
    k = embedding.diagnostics.get("k", embedding.params.get("k"))
    return text if k is None else f"{text}, k={int(k)}"
