"""`pseudo-label`: confident predictions of the network are labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.api import check_number
from kdbench_semisup._common import (
    BatchNorm,
    Semisupervised,
    Variant,
    usage_of,
)

if TYPE_CHECKING:
    from torch import nn

    from kdbench.api import SchemeRun, SchemeSetup
    from kdbench_semisup._common import Losses

#: (weight, threshold, start and end of the ramp) of each variant
PUBLISHED = {"code": (1.0, 0.95, 0.0, 0.4), "paper": (3.0, 0.0, 0.1, 0.6)}


class PseudoLabel(Semisupervised):
    """Lee, Pseudo-Label (ICML 2013 Workshop on Challenges in Representation Learning), eqs. (15) and (16).

    Cross-entropy on labelled images + w * cross-entropy on unlabelled images with the most probable class, if
    its probability is above a threshold; the mean is over all unlabelled images.

    Parameters
    ----------
    variant
        "code": threshold 0.95, w increases linearly to 1 over the first 0.4 of the training; "paper": no
        threshold, w = 0 up to epoch 100, then increases linearly to 3 at epoch 600. The paper does not report
        the number of epochs; assumed: 1,000.
    weight
        Largest weight w, >= 0. None: the value of the variant.
    threshold
        Probability above which a prediction is used, 0..1. None: the value of the variant.
    ramp_start
        Fraction of the training at which w starts to increase, 0..1. None: the value of the variant.
    ramp_end
        Fraction of the training at which w is largest, 0..1. None: the value of the variant.
    mu
        Unlabelled images per labelled image in a step, >= 1; published: 1.
    batch_norm
        Images over which batch normalisation computes its statistics. "labelled": separate passes for
        labelled and unlabelled images, and only labelled images update the running statistics; "joint": one
        pass over all images; "interleaved": passes over mixed batches of the labelled batch's size, and only
        the first updates the running statistics. Published: "labelled".
    ema_decay
        Decay of the moving average of the weights, which is evaluated; in [0, 1), published: 0.999. A
        training of a few thousand steps needs a smaller value.
    epoch_steps
        Steps per epoch, >= 1; None: one pass over the unlabelled images.
    """

    def __init__(
        self,
        *,
        variant: Variant = "code",
        weight: float | None = None,
        threshold: float | None = None,
        ramp_start: float | None = None,
        ramp_end: float | None = None,
        mu: int = 1,
        batch_norm: BatchNorm = "labelled",
        ema_decay: float = 0.999,
        epoch_steps: int | None = None,
    ) -> None:
        super().__init__(
            variant=variant, mu=mu, batch_norm=batch_norm, ema_decay=ema_decay, epoch_steps=epoch_steps
        )
        published = PUBLISHED[variant]
        self.weight = published[0] if weight is None else check_number("weight", weight, at_least=0)
        self.threshold = (
            published[1] if threshold is None else check_number("threshold", threshold, at_least=0, at_most=1)
        )
        self.ramp_start = (
            published[2]
            if ramp_start is None
            else check_number("ramp_start", ramp_start, at_least=0, at_most=1)
        )
        self.ramp_end = (
            published[3] if ramp_end is None else check_number("ramp_end", ramp_end, at_least=0, at_most=1)
        )
        if self.ramp_start > self.ramp_end:
            raise ValueError(f"ramp_start={self.ramp_start!r}: at most ramp_end, {self.ramp_end!r}")

    def modules(self, setup: SchemeSetup) -> nn.Module:
        """Counter of the unlabelled images used."""
        from kdbench_semisup.state import Usage

        return Usage()

    def epoch(self, run: SchemeRun) -> Losses:
        """Yield {"cross_entropy": loss, "pseudo_label": weighted loss}."""
        from kdbench_semisup import losses

        usage = usage_of(run)
        usage.begin()
        for labelled, unlabelled in self.batches(run):
            weight = self.weight * losses.linear_ramp(run.progress, self.ramp_start, self.ramp_end)
            supervised, unlabelled_logits = self.logits(run, labelled.images, unlabelled.images)
            loss, used = losses.pseudo_label(unlabelled_logits, self.threshold)
            usage.count(used)
            yield {
                "cross_entropy": losses.cross_entropy(supervised, labelled.labels),
                "pseudo_label": weight * loss,
            }

    def finish(self, run: SchemeRun) -> dict[str, float]:
        """`unlabelled_used`: the fraction of unlabelled images above the threshold in the last epoch."""
        return usage_of(run).figures()
