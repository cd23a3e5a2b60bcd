"""`flexmatch`: FixMatch with one threshold per class, lower for classes that are learned more slowly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.api import check_integer, check_number
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

#: (operations, style of the strong augmentation) of each variant
PUBLISHED = {"paper": (2, "paper"), "code": (3, "torchssl")}


class FlexMatch(Semisupervised):
    """Zhang et al., FlexMatch (NeurIPS 2021), algorithm 1: FixMatch with curriculum pseudo labelling.

    For every unlabelled image the last class predicted with a probability of at least `threshold` is stored. The
    threshold of a class is `threshold` * M(its count over the largest count), M(x) = x / (2 - x), so that all images
    are used at first.

    Parameters
    ----------
    variant
        "paper": two operations and a cutout of half the side, as FixMatch; "code" (github.com/TorchSSL):
        three operations and a cutout of a random side up to that.
    weight
        Weight of the consistency term, >= 0; published: 1.
    threshold
        Largest threshold, 0..1; published: 0.95.
    warm_up
        Count images without a confident prediction as an additional class when the largest count is
        determined.
    operations
        Operations of RandAugment applied in sequence, >= 1. None: the value of the variant.
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
        threshold: float = 0.95,
        warm_up: bool = True,
        operations: int | None = None,
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
        self.threshold = check_number("threshold", threshold, at_least=0, at_most=1)
        self.warm_up = warm_up
        self.operations = (
            published[0] if operations is None else check_integer("operations", operations, at_least=1)
        )
        self.style = published[1]
        self.cutout = check_number("cutout", cutout, at_least=0, at_most=1)

    def modules(self, setup: SchemeSetup) -> nn.Module:
        """The last confident prediction of each row of the training split, and counters."""
        from kdbench_semisup.state import Predictions

        return Predictions(setup.n_train, setup.n_unlabelled)

    def epoch(self, run: SchemeRun) -> Losses:
        """Yield {"cross_entropy": loss, "consistency": weighted loss}."""
        from kdbench_semisup import losses
        from kdbench_semisup.state import Predictions

        state = usage_of(run)
        assert isinstance(state, Predictions)
        state.begin()
        n_unlabelled = int(state.n_unlabelled)
        strong = rand_augment(self.operations, self.style, self.cutout)
        for labelled, unlabelled in self.batches(run):
            hard = run.augmented(run.another_view(unlabelled), strong)
            thresholds = losses.class_thresholds(
                state.selected, run.n_classes, n_unlabelled, threshold=self.threshold, warm_up=self.warm_up
            )
            supervised, weak, strong_logits = self.logits(run, labelled.images, unlabelled.images, hard)
            loss, used = losses.hard_consistency(weak, strong_logits, thresholds)
            state.count(used)
            state.remember(unlabelled.index, weak, self.threshold)
            yield {
                "cross_entropy": losses.cross_entropy(supervised, labelled.labels),
                "consistency": self.weight * loss,
            }

    def finish(self, run: SchemeRun) -> dict[str, float]:
        """`unlabelled_used`: the fraction of unlabelled images above their class's threshold in the last epoch."""
        return usage_of(run).figures()
