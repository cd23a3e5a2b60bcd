"""Errors of a network within and outside the true superclass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kdbench.api import MetricResult
from kdbench_metrics._outputs import outputs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kdbench.api import View


class SuperclassConfusion:
    """Confusion matrix of superclasses, from the class with the largest logit (ties: the first class).

    A student that has learned which classes are similar confuses those. LW's hypothesis is that distillation
    transfers a structure of superclasses; this metric measures its effect on predictions.

    Values:

    - ``within``: fraction of errors whose predicted class is in the true superclass, 0..1; absent without errors;
    - ``chance``: its expectation for errors spread evenly over the wrong classes, 0..1; absent without errors;
    - ``superclass_accuracy``: fraction of images with the correct superclass, 0..1.

    Arrays: ``confusion`` int64 (n_superclasses, n_superclasses), number of images by true (row) and predicted
    (column) superclass; ``names`` str (n_superclasses,). Figure ``confusion``: rows normalised to 1.
    """

    invariances = ("order of images", "logits plus a constant", "logits times a constant")

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
            Logits, labels and superclasses do not match, or logits are not finite.
        """
        logits, labels = outputs(view)
        groups = np.asarray(view.superclass_of, dtype=np.int64)
        if groups.shape != (logits.shape[1],):
            raise ValueError(
                f"superclasses of {groups.size} classes do not fit logits of shape {logits.shape}"
            )
        chosen = logits.argmax(axis=1)
        n_groups = max(int(np.max(groups)) + 1, len(view.superclass_names))
        true = groups[labels]
        confusion = np.zeros((n_groups, n_groups), np.int64)
        np.add.at(confusion, (true, groups[chosen]), 1)
        values = {"superclass_accuracy": float(np.trace(confusion) / len(labels))}
        wrong = chosen != labels
        if wrong.any():
            values["within"] = float(np.mean(groups[chosen[wrong]] == true[wrong]))
            siblings = np.bincount(groups, minlength=n_groups) - 1
            values["chance"] = float(np.mean(siblings[true[wrong]]) / (len(groups) - 1))
        names = [*view.superclass_names] or [str(i) for i in range(n_groups)]
        arrays = {"confusion": confusion, "names": np.array(names, dtype=np.str_)}
        return MetricResult(
            values, arrays, setting=f"n={len(labels)}", figures={"confusion": draw(confusion, names)}
        )


def draw(confusion: np.ndarray, names: Sequence[str]) -> Figure:
    """Draw `confusion` with normalised rows as a heat map, 0 to 1."""
    from matplotlib.figure import Figure

    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    # in inches; an automatic layout would take most of the time
    side, label = 1.4 + 0.2 * len(names), 0.5 + 0.055 * max(map(len, names))
    width, height = label + side + 0.9, label + side + 0.1
    figure = Figure(figsize=(width, height))
    ax = figure.add_axes((label / width, label / height, side / width, side / height))
    image = ax.imshow(share, vmin=0, vmax=1, cmap="viridis")
    ticks = range(len(names))
    ax.set_xticks(ticks, names, rotation=90, fontsize=7)
    ax.set_yticks(ticks, names, fontsize=7)
    ax.set_xlabel("superclass of the class chosen")
    ax.set_ylabel("true superclass")
    bar = figure.add_axes(((label + side + 0.1) / width, label / height, 0.15 / width, side / height))
    figure.colorbar(image, cax=bar, label="share of images")
    return figure
