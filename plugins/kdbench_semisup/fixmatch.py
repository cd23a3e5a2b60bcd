"""`fixmatch`: confident predictions for weakly augmented images label strongly augmented ones."""

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
    probable class of the weakly augmented ones, where its probability is at least a threshold; the mean is over
    all unlabelled images. The weak augmentation is the recipe's.

    Args:
        variant: of the strong augmentation, in which paper and code differ; see `RandAugment` and `CTAugment`.
        weight: w >= 0; 1.
        threshold: 0..1; 0.95.
        augmentation: "randaugment" or "ctaugment", which learns from labelled images how far to go.
        operations: of the augmentation in a row, >= 1; 2.
        cutout: side of the grey square after RandAugment, as a share of the image's side, 0..1; 0.5.
        cta_threshold: bins below this share of the best one are not drawn from, 0..1; 0.8.
        cta_decay: of the bins' weights, >= 0 and below 1; 0.99.
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
        """Counts how many unlabelled images are used; with CTAugment, the weights of its bins as well."""
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
        learnt = usage.augmentation
        strong: Callable[[torch.Tensor], torch.Tensor] = learnt or rand_augment(
            self.operations, self.variant, self.cutout
        )
        for labelled, unlabelled in self.batches(run):
            # in a weak view of its own, as published
            hard = run.augmented(run.another_view(unlabelled), strong)
            if learnt is not None:
                learn(learnt, run, labelled)
            known, weak, other = self.logits(run, labelled.images, unlabelled.images, hard)
            loss, used = losses.hard_consistency(weak, other, self.threshold)
            usage.count(used)
            yield {
                "cross_entropy": losses.cross_entropy(known, labelled.labels),
                "consistency": self.weight * loss,
            }

    def finish(self, run: SchemeRun) -> dict[str, float]:
        """`unlabelled_used`: the share of unlabelled images above the threshold in the last epoch."""
        return usage_of(run).figures()


def learn(augmentation: CTAugment, run: SchemeRun, labelled: Batch) -> None:
    """Let CTAugment see how well the average still knows labelled images under operations drawn at random."""
    import torch

    from kdbench_semisup.losses import one_hot

    assert run.ema is not None
    assert labelled.labels is not None
    policy: Policy = augmentation.probe(len(labelled.images))
    images = run.augmented(labelled, lambda x: augmentation.augment(x, policy))
    with torch.no_grad():  # the average is in evaluation mode
        p = run.ema(images).float().softmax(1)
    wrong = (p - one_hot(labelled.labels, run.n_classes)).abs().sum(1)
    augmentation.update(policy, 1 - 0.5 * wrong)
