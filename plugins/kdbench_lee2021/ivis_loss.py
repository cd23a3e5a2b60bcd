"""Converged loss of an ivis embedding (LW section 5.3, Table 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdbench.api import MetricResult

if TYPE_CHECKING:
    from kdbench.api import Embedding, View

#: Epochs averaged in `tail20`; equal to the patience of ivis.
TAIL = 20


class IvisLoss:
    """Converged training loss of the ivis embedding of a layer; lower is better.

    LW report a "converged loss" without the epoch (assumption LW-A9): the primary value is the last one.

    Values:

    - ``last``: loss of the last epoch, with dropout, as ivis prints it; ``min``: the lowest of all epochs;
    - ``tail20``: mean of the last 20 epochs (or of all, if fewer), less noisy than ``last``;
    - ``eval``: loss without dropout on one fixed set of triplets, if the reducer reports ``loss_eval``;
    - ``n_epochs``: number of epochs trained.

    The loss depends strongly on the number of points n and of neighbours k, so the setting is "n=..., k=..." and
    rows with different settings are not compared.
    """

    def __call__(self, view: View) -> MetricResult:
        """Measure `view`.

        Parameters
        ----------
        view
            The inputs listed in the spec's `needs`.

        Returns
        -------
        MetricResult
            The values, arrays and figures that the class describes.

        Raises
        ------
        ValueError
            The reducer reports no loss history, or it is not finite.
        """
        embedding = view.embedding
        losses = np.asarray(embedding.loss_history, dtype=np.float64)
        if not losses.size:
            raise ValueError(
                f"reducer {embedding.reducer!r} reports no loss history: ivis-loss does not apply to it"
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
