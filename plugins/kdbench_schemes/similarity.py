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
    """Similarities of the images in a batch: row-normalised Gram matrices of two layers (eqs. (1)-(4)).

    Layers of any two shapes can be paired, because only inner products of images are compared.

    Parameters
    ----------
    pairs
        "auto": the last maps of both networks; or a table of student tap = teacher tap.
    weight
        Weight of the sum over pairs, >= 0; published: 3000.
    ce_weight
        Weight of the cross-entropy on the labelled images, >= 0.
    pool
        Distil the unlabelled images too; False: the labelled images only.

    Attributes
    ----------
    minimum_at_teacher
        Loss terms that are minimal if the student equals its teacher.
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
    """Mean squared difference of the row-normalised Gram matrices. No gradient flows into the teacher.

    Parameters
    ----------
    student
        (b, ...).
    teacher
        (b, ...) of any other shape.

    Returns
    -------
    Tensor
        A scalar >= 0; 0 if one layer is a scaled orthogonal map of the other.
    """
    from torch.nn import functional as F

    grams = []
    for features in (student.flatten(1), teacher.detach().flatten(1)):
        grams.append(F.normalize(features @ features.T))
    return (grams[0] - grams[1]).square().mean()
