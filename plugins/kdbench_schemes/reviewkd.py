"""Chen, Liu, Zhao & Jia, "Distilling knowledge via knowledge review" (CVPR 2021, arXiv 2104.09044)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from kdbench.api import check_integer, check_number
from kdbench_schemes._common import exact
from kdbench_schemes._features import FeatureScheme, at, of_teacher, paired
from kdbench_schemes._pairs import Pairs, penultimate, stages

if TYPE_CHECKING:
    import torch

    from kdbench.api import SchemeRun, SchemeSetup
    from kdbench_schemes._common import Step, Terms
    from kdbench_schemes._reviewkd_module import Review

#: Sizes to which maps are pooled, each with half the weight of the previous one (section 3.3; authors' code).
LEVELS = (4, 2, 1)


class ReviewKD(FeatureScheme):
    """Review: each layer of the teacher supervises the student's layer at the same depth and all deeper ones.

    The student's layers are merged by attention, beginning with the deepest (ABF), and compared with the teacher's at
    several sizes (HCL).

    Parameters
    ----------
    pairs
        "auto": the last tap of each stage, paired from the output, and the inputs of the last linear layers;
        or a table of student tap = teacher tap, from input to output.
    width
        Channels in which layers are merged, >= 1, at most those of the student's deepest layer; published:
        512.
    warmup
        Fraction of the training, 0..1, over whose epochs the weight increases linearly; published: 20 of 240
        epochs.
    weight
        Weight of the sum over pairs, >= 0; published: 5 for wide residual networks, 0.6 to 8 for others.
    ce_weight
        Weight of the cross-entropy on the labelled images, >= 0.
    pool
        Distil the unlabelled images too; False: the labelled images only.
    """

    def __init__(
        self,
        *,
        pairs: Pairs = "auto",
        width: int = 512,
        warmup: float = 1 / 12,
        weight: float = 5.0,
        ce_weight: float = 1.0,
        pool: bool = True,
    ) -> None:
        super().__init__(pairs=pairs, ce_weight=ce_weight, weight=weight, pool=pool)
        self.width = check_integer("width", width, at_least=1)
        self.warmup = check_number("warmup", warmup, at_least=0, at_most=1)

    def auto(self, setup: SchemeSetup) -> Sequence[tuple[str, str]]:
        return [*stages(setup), *penultimate(setup)]

    def modules(self, setup: SchemeSetup) -> Review:
        """The fusions, trained with the student.

        Parameters
        ----------
        setup
            The networks, their taps and the numbers of images.

        Returns
        -------
        Review
            One fusion per pair.

        Raises
        ------
        ValueError
            A tap does not exist, or shapes do not fit.
        """
        from kdbench_schemes._reviewkd_module import Review

        return Review(self.find_pairs(setup), self.width)

    def weight_at(self, run: SchemeRun) -> float:
        """The weight; it increases linearly with the epochs of the warm-up and is positive in the first."""
        rising = self.warmup * run.epochs
        return self.weight * (min((run.epoch + 1) / rising, 1.0) if rising else 1.0)

    def distil(self, step: Step) -> Terms:
        """{"review": the sum over pairs}."""
        import torch

        review = cast("Review", paired(step.run))
        merged = review([at(step.outputs, pair.student) for pair in review.pairs])
        layers = zip(merged, review.pairs, strict=True)
        losses = [hierarchical_context_loss(m, of_teacher(step, pair.teacher)) for m, pair in layers]
        return {"review": torch.stack(losses).sum()}


@exact
def hierarchical_context_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """HCL, the hierarchical context loss (section 3.3). No gradient flows into the teacher.

    The mean squared errors at full size and of maps pooled to 4x4, 2x2 and 1x1, averaged with the weights 1, 1/2,
    1/4 and 1/8. Sizes not smaller than the map's height are skipped.

    Parameters
    ----------
    student
        (b, c, h, w).
    teacher
        (b, c, h, w), or (b, c) for 1x1 maps.

    Returns
    -------
    Tensor
        A scalar >= 0, 0 if they are equal.
    """
    from torch.nn import functional as F

    from kdbench_schemes._adapters import as_map, resized

    teacher = as_map(teacher.detach())
    total, weight, weights = F.mse_loss(student, teacher), 1.0, 1.0
    for side in LEVELS:
        if side < student.shape[-2]:
            weight /= 2
            weights += weight
            pooled, target = resized(student, (side, side)), resized(teacher, (side, side))
            total = total + weight * F.mse_loss(pooled, target)
    return total / weights
