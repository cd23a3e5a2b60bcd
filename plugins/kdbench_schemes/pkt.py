"""Passalis & Tefas, "Learning deep representations with probabilistic knowledge transfer" (ECCV 2018,
arXiv 1803.10837)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdbench_schemes._common import exact
from kdbench_schemes._features import FeatureScheme, paired, summed
from kdbench_schemes._pairs import Pairs, penultimate

if TYPE_CHECKING:
    import torch

    from kdbench.api import SchemeSetup
    from kdbench_schemes._common import Step, Terms

#: Added to probabilities before the logarithm, and to norms, as the authors' code does.
EPSILON = 1e-7


class PKT(FeatureScheme):
    """Probabilistic knowledge transfer: cosine similarities in a batch as probabilities (section 3).

    Layers of any two shapes can be paired.

    Parameters
    ----------
    pairs
        "auto": the inputs of the last linear layers; or a table of student tap = teacher tap.
    weight
        Weight of the sum over pairs, >= 0; published: 30000, with the mean over all pairs of images.
    ce_weight
        Weight of the cross-entropy on the labelled images, >= 0.
    pool
        Distil the unlabelled images too; False: the labelled images only.

    Attributes
    ----------
    minimum_at_teacher
        Loss terms that are minimal if the student equals its teacher.
    """

    minimum_at_teacher = ("pkt",)

    def __init__(
        self, *, pairs: Pairs = "auto", weight: float = 30000.0, ce_weight: float = 1.0, pool: bool = True
    ) -> None:
        super().__init__(pairs=pairs, ce_weight=ce_weight, weight=weight, pool=pool)

    def auto(self, setup: SchemeSetup) -> Sequence[tuple[str, str]]:
        return penultimate(setup)

    def distil(self, step: Step) -> Terms:
        """{"pkt": the sum over pairs}."""
        return {"pkt": summed(pkt_loss, step, paired(step.run).pairs)}


@exact
def pkt_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """KL(teacher || student) of each image's distribution over the batch, in nats.

    No gradient flows into the teacher. The distribution includes the image itself. The mean over the b x b
    pairs, as in the authors' code; the paper sums.

    Parameters
    ----------
    student
        (b, ...).
    teacher
        (b, ...) of any other shape.

    Returns
    -------
    Tensor
        A scalar; 0, its minimum up to EPSILON, if one layer is an orthogonal map of the other with images
        scaled.
    """
    p, q = _neighbours(teacher.detach()), _neighbours(student)
    return (p * ((p + EPSILON) / (q + EPSILON)).log()).mean()


def _neighbours(features: torch.Tensor) -> torch.Tensor:
    """Cosine similarities (b, b) shifted to 0..1, with rows that sum to 1."""
    features = features.flatten(1)
    features = features / (features.norm(dim=1, keepdim=True) + EPSILON)
    similarity = (features @ features.T + 1) / 2
    return similarity / similarity.sum(1, keepdim=True)
