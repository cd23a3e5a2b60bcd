"""`uda`: sharpened predictions for weakly augmented images are targets of strongly augmented images."""

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

    Cross-entropy on labelled images + w * KL(p(weak view)^(1/T) || p(strong view)) on unlabelled images, if
    the largest probability of the weak view is at least a threshold; the mean is over all unlabelled images.

    Parameters
    ----------
    variant
        "paper": T = 0.4 and threshold 0.8, with the ranges of operations of FixMatch's paper; "code": T = 1
        and threshold 0.95, with the operations of FixMatch's code.
    weight
        Weight w of the consistency term, >= 0; published: 1.
    temperature
        Temperature T of the sharpening, > 0. None: the value of the variant.
    threshold
        Smallest probability at which a prediction is used, 0..1. None: the value of the variant.
    annealing
        Training signal annealing: labelled images whose true class has a probability above a threshold are
        excluded; the threshold increases by this schedule from 1 / n_classes to 1. "none": no exclusion.
    entropy_weight
        Weight of the entropy of the predictions for weak views, >= 0; published: 0.
    operations
        Operations of RandAugment applied in sequence, >= 1; published: 2.
    cutout
        Side of the grey square after RandAugment as a fraction of the image's side, 0..1; published: 0.5.
    mu
        Unlabelled images per labelled image in a step, >= 1; published: 7.
    batch_norm
        Images over which batch normalisation computes its statistics. "labelled": separate passes for
        labelled and unlabelled images, and only labelled images update the running statistics; "joint": one
        pass over all images; "interleaved": passes over mixed batches of the labelled batch's size, and only
        the first updates the running statistics. Published: "joint".
    ema_decay
        Decay of the moving average of the weights, which is evaluated; in [0, 1), published: 0.999. A
        training of a few thousand steps needs a smaller value.
    epoch_steps
        Steps per epoch, >= 1; None: one pass over the unlabelled images.
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
        """Counter of the unlabelled images used."""
        from kdbench_semisup.state import Usage

        return Usage()

    def epoch(self, run: SchemeRun) -> Losses:
        """Yield {"cross_entropy": loss, "consistency": weighted loss}, and "entropy" if its weight is positive."""
        from kdbench_semisup import losses

        usage = usage_of(run)
        usage.begin()
        strong = rand_augment(self.operations, self.variant, self.cutout)
        for labelled, unlabelled in self.batches(run):
            if labelled.labels is None:
                raise ValueError("a labelled batch came without labels")
            hard = run.augmented(run.another_view(unlabelled), strong)
            supervised, weak, strong_logits = self.logits(run, labelled.images, unlabelled.images, hard)
            loss, used = losses.soft_consistency(
                weak, strong_logits, temperature=self.temperature, threshold=self.threshold
            )
            usage.count(used)
            most = losses.annealing_threshold(self.annealing, run.progress, run.n_classes)
            terms = {
                "cross_entropy": losses.annealed_cross_entropy(supervised, labelled.labels, most),
                "consistency": self.weight * loss,
            }
            if self.entropy_weight:
                terms["entropy"] = self.entropy_weight * losses.entropy(weak)
            yield terms

    def finish(self, run: SchemeRun) -> dict[str, float]:
        """`unlabelled_used`: the fraction of unlabelled images above the threshold in the last epoch."""
        return usage_of(run).figures()
