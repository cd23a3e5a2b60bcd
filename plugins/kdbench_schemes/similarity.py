"""Tung & Mori, "Similarity-preserving knowledge distillation" (ICCV 2019, arXiv 1907.09682)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdbench_schemes._common import exact
from kdbench_schemes._features import FeatureScheme, paired, summed
from kdbench_schemes._pairs import Pairs, last_stage

if TYPE_CHECKING:
    import torch

    from kdbench.api import SchemeSetup
    from kdbench_schemes._common import Step, Terms


class Similarity(FeatureScheme):
    """Which images of a batch resemble each other: the row-normalised Gram matrices of two layers (eqs. (1)-(4)).

    Layers of any two shapes can be paired: only products between images are compared.

    Args:
        pairs: "auto": the last maps of both; or a table of student tap = teacher tap.
        weight: of the sum over pairs, >= 0; published: 3000.
        ce_weight: of the cross-entropy on the labelled images, >= 0.
        pool: distil the unlabelled images too; False: the labelled ones alone.
    """

    minimum_at_teacher = ("similarity",)

    def __init__(
        self, *, pairs: Pairs = "auto", weight: float = 3000.0, ce_weight: float = 1.0, pool: bool = True
    ) -> None:
        super().__init__(pairs=pairs, ce_weight=ce_weight, weight=weight, pool=pool)

    def auto(self, setup: SchemeSetup) -> Sequence[tuple[str, str]]:
        return last_stage(setup)

    def distil(self, step: Step) -> Terms:
        """{"similarity": the sum over pairs}."""
        return {"similarity": summed(similarity_loss, step, paired(step.run).pairs)}


@exact
def similarity_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The mean squared difference of the row-normalised Gram matrices. No gradient flows into the teacher.

    Args:
        student: (b, ...).
        teacher: (b, ...) of any other shape.

    Returns:
        A scalar >= 0; 0 where one layer is an orthogonal map of a multiple of the other.
    """
    from torch.nn import functional as F

    grams = []
    for features in (student.flatten(1), teacher.detach().flatten(1)):
        grams.append(F.normalize(features @ features.T))
    return (grams[0] - grams[1]).square().mean()
