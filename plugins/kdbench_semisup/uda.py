"""`uda`: sharpened predictions for weakly augmented images teach strongly augmented ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kdbench.api import check_choice, check_integer, check_number
from kdbench_semisup._common import (
    BatchNorm,
    Semisupervised,
    Variant,
    rand_augment,
    usage_of,
)

if TYPE_CHECKING:
    from torch import nn

    from kdbench.api import SchemeRun, SchemeSetup
    from kdbench_semisup._common import Losses

SCHEDULES = ("none", "linear", "log", "exp")
#: (temperature, threshold) of each variant
PUBLISHED = {"paper": (0.4, 0.8), "code": (1.0, 0.95)}


class UDA(Semisupervised):
    """Xie et al., Unsupervised Data Augmentation for Consistency Training (NeurIPS 2020), eq. (1).

    Cross-entropy on labelled images + w * KL(p(weak view)^(1/T) || p(strong view)) on unlabelled ones, where
    the largest probability of the weak view is at least a threshold; the mean is over all unlabelled images.

    Args:
        variant: "paper": T = 0.4 and threshold 0.8, with the operations' ranges of FixMatch's paper; "code": the
            settings of FixMatch's code, T = 1 and threshold 0.95, with its operations.
        weight: w >= 0; 1.
        temperature: T > 0. None: as published.
        threshold: 0..1. None: as published.
        annealing: training signal annealing: labelled images whose right class is more probable than a
            threshold that grows by this schedule from 1 / n_classes to 1 do not count. "none" for all images.
        entropy_weight: of the entropy of the predictions for weak views, >= 0; 0.
        operations: of RandAugment in a row, >= 1; 2.
        cutout: side of the grey square after it, as a share of the image's side, 0..1; 0.5.
        mu: unlabelled images in a step for each labelled one, >= 1; 7.
        batch_norm: where batch normalisation takes its statistics. "labelled": labelled and unlabelled images
            apart, and the labelled ones' are remembered; "joint": all images of a step together; "interleaved":
            mixed batches of the labelled one's size, of which the first one's are remembered. As published
            "joint".
        ema_decay: of the moving average of the weights, which is what is evaluated, >= 0 and below 1; 0.999. A
            training of a few thousand steps wants a smaller one.
        epoch_steps: steps an epoch, >= 1; None for one pass over the unlabelled images.
    """

    def __init__(
        self,
        *,
        variant: Variant = "paper",
        weight: float = 1.0,
        temperature: float | None = None,
        threshold: float | None = None,
        annealing: Literal["none", "linear", "log", "exp"] = "none",
        entropy_weight: float = 0.0,
        operations: int = 2,
        cutout: float = 0.5,
        mu: int = 7,
        batch_norm: BatchNorm = "joint",
        ema_decay: float = 0.999,
        epoch_steps: int | None = None,
    ) -> None:
        super().__init__(
            variant=variant, mu=mu, batch_norm=batch_norm, ema_decay=ema_decay, epoch_steps=epoch_steps
        )
        published = PUBLISHED[variant]
        self.weight = check_number("weight", weight, at_least=0)
        self.temperature = (
            published[0] if temperature is None else check_number("temperature", temperature, above=0)
        )
        self.threshold = (
            published[1] if threshold is None else check_number("threshold", threshold, at_least=0, at_most=1)
        )
        self.annealing = check_choice("annealing", annealing, SCHEDULES)
        self.entropy_weight = check_number("entropy_weight", entropy_weight, at_least=0)
        self.operations = check_integer("operations", operations, at_least=1)
        self.cutout = check_number("cutout", cutout, at_least=0, at_most=1)

    def modules(self, setup: SchemeSetup) -> nn.Module:
        """Counts how many unlabelled images are used."""
        from kdbench_semisup.state import Usage

        return Usage()

    def epoch(self, run: SchemeRun) -> Losses:
        """Yield {"cross_entropy": loss, "consistency": weighted loss}, and "entropy" where it has a weight."""
        from kdbench_semisup import losses

        usage = usage_of(run)
        usage.begin()
        strong = rand_augment(self.operations, self.variant, self.cutout)
        for labelled, unlabelled in self.batches(run):
            if labelled.labels is None:
                raise ValueError("a labelled batch came without labels")
            hard = run.augmented(run.another_view(unlabelled), strong)
            known, weak, other = self.logits(run, labelled.images, unlabelled.images, hard)
            loss, used = losses.soft_consistency(
                weak, other, temperature=self.temperature, threshold=self.threshold
            )
            usage.count(used)
            most = losses.annealing_threshold(self.annealing, run.progress, run.n_classes)
            terms = {
                "cross_entropy": losses.annealed_cross_entropy(known, labelled.labels, most),
                "consistency": self.weight * loss,
            }
            if self.entropy_weight:
                terms["entropy"] = self.entropy_weight * losses.entropy(weak)
            yield terms

    def finish(self, run: SchemeRun) -> dict[str, float]:
        """`unlabelled_used`: the share of unlabelled images above the threshold in the last epoch."""
        return usage_of(run).figures()
