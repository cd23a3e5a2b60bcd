"""`flexmatch`: FixMatch with a threshold for each class, lower for those that are learnt more slowly."""

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

    For every unlabelled image the class that it was last predicted as, with a probability of at least
    `threshold`, is kept. A class's own threshold is `threshold` * M(share of the most frequent class's count),
    M(x) = x / (2 - x), so that all images count at first.

    Args:
        variant: "paper": two operations and a cutout of half the side, as FixMatch; "code" (github.com/TorchSSL):
            three operations and a cutout of a random side up to it.
        weight: of the consistency term, >= 0; 1.
        threshold: the largest one, 0..1; 0.95.
        warm_up: images that were never predicted with confidence count as a class of their own when counts are
            compared with the largest one.
        operations: of RandAugment in a row, >= 1. None: as published.
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
        """For each row of the training split the class it was last predicted as, -1 for none; and counts."""
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
            known, weak, other = self.logits(run, labelled.images, unlabelled.images, hard)
            loss, used = losses.hard_consistency(weak, other, thresholds)
            state.count(used)
            state.remember(unlabelled.index, weak, self.threshold)
            yield {
                "cross_entropy": losses.cross_entropy(known, labelled.labels),
                "consistency": self.weight * loss,
            }

    def finish(self, run: SchemeRun) -> dict[str, float]:
        """`unlabelled_used`: the share of unlabelled images above their class's threshold in the last epoch."""
        return usage_of(run).figures()
