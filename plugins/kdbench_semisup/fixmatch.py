"""`fixmatch`: confident predictions for weakly augmented images are labels of strongly augmented images."""

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
    from collections.abc import Callable

    import torch
    from torch import nn

    from kdbench.api import Batch, SchemeRun, SchemeSetup
    from kdbench_semisup._common import Losses
    from kdbench_semisup.ctaugment import CTAugment, Policy

AUGMENTATIONS = ("randaugment", "ctaugment")


class FixMatch(Semisupervised):
    """Sohn et al., FixMatch (NeurIPS 2020), eqs. (3) and (4).

    Cross-entropy on labelled images + w * cross-entropy of strongly augmented unlabelled images with the most
    probable class of the weakly augmented images, if its probability is at least a threshold; the mean is
    over all unlabelled images. The weak augmentation is the recipe's.

    Parameters
    ----------
    variant
        Source of the strong augmentation, in which paper and code differ; see `RandAugment` and `CTAugment`.
    weight
        Weight w of the consistency term, >= 0; published: 1.
    threshold
        Smallest probability at which a prediction is used, 0..1; published: 0.95.
    augmentation
        Strong augmentation: "randaugment", or "ctaugment", which learns its magnitudes from labelled images.
    operations
        Operations applied in sequence, >= 1; published: 2.
    cutout
        Side of the grey square after RandAugment as a fraction of the image's side, 0..1; published: 0.5.
    cta_threshold
        CTAugment: bins below this fraction of the best one are not used, 0..1; published: 0.8.
    cta_decay
        CTAugment: decay of the bins' weights, in [0, 1); published: 0.99.
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
        threshold: float = 0.95,
        augmentation: Literal["randaugment", "ctaugment"] = "randaugment",
        operations: int = 2,
        cutout: float = 0.5,
        cta_threshold: float = 0.8,
        cta_decay: float = 0.99,
        mu: int = 7,
        batch_norm: BatchNorm = "joint",
        ema_decay: float = 0.999,
        epoch_steps: int | None = None,
    ) -> None:
        super().__init__(
            variant=variant, mu=mu, batch_norm=batch_norm, ema_decay=ema_decay, epoch_steps=epoch_steps
        )
        self.weight = check_number("weight", weight, at_least=0)
        self.threshold = check_number("threshold", threshold, at_least=0, at_most=1)
        self.augmentation = check_choice("augmentation", augmentation, AUGMENTATIONS)
        self.operations = check_integer("operations", operations, at_least=1)
        self.cutout = check_number("cutout", cutout, at_least=0, at_most=1)
        self.cta_threshold = check_number("cta_threshold", cta_threshold, at_least=0, at_most=1)
        self.cta_decay = check_number("cta_decay", cta_decay, at_least=0, below=1)

    def modules(self, setup: SchemeSetup) -> nn.Module:
        """Counter of the unlabelled images used, and with CTAugment the weights of its bins."""
        from kdbench_semisup.ctaugment import CTAugment
        from kdbench_semisup.state import Usage

        if self.augmentation != "ctaugment":
            return Usage()
        return Usage(
            CTAugment(
                depth=self.operations,
                threshold=self.cta_threshold,
                decay=self.cta_decay,
                variant=self.variant,
            )
        )

    def epoch(self, run: SchemeRun) -> Losses:
        """Yield {"cross_entropy": loss, "consistency": weighted loss}."""
        from kdbench_semisup import losses

        usage = usage_of(run)
        usage.begin()
        learned = usage.augmentation
        strong: Callable[[torch.Tensor], torch.Tensor] = learned or rand_augment(
            self.operations, self.variant, self.cutout
        )
        for labelled, unlabelled in self.batches(run):
            # from another weak view, as published
            hard = run.augmented(run.another_view(unlabelled), strong)
            if learned is not None:
                update_from(learned, run, labelled)
            supervised, weak, strong_logits = self.logits(run, labelled.images, unlabelled.images, hard)
            loss, used = losses.hard_consistency(weak, strong_logits, self.threshold)
            usage.count(used)
            yield {
                "cross_entropy": losses.cross_entropy(supervised, labelled.labels),
                "consistency": self.weight * loss,
            }

    def finish(self, run: SchemeRun) -> dict[str, float]:
        """`unlabelled_used`: the fraction of unlabelled images above the threshold in the last epoch."""
        return usage_of(run).figures()


def update_from(augmentation: CTAugment, run: SchemeRun, labelled: Batch) -> None:
    """Update CTAugment by the averaged model's predictions for labelled images under random operations."""
    import torch

    from kdbench_semisup.losses import one_hot

    assert run.ema is not None
    assert labelled.labels is not None
    policy: Policy = augmentation.probe(len(labelled.images))
    images = run.augmented(labelled, lambda x: augmentation.augment(x, policy))
    with torch.no_grad():  # the averaged model is in evaluation mode
        p = run.ema(images).float().softmax(1)
    error = (p - one_hot(labelled.labels, run.n_classes)).abs().sum(1)
    augmentation.update(policy, 1 - 0.5 * error)
