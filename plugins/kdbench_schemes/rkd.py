"""Park, Kim, Lu & Cho, "Relational knowledge distillation" (CVPR 2019, arXiv 1904.05068)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdbench.api import check_number
from kdbench_schemes._common import exact
from kdbench_schemes._features import FeatureScheme, paired, summed
from kdbench_schemes._pairs import Pairs, penultimate

if TYPE_CHECKING:
    import torch

    from kdbench.api import SchemeSetup
    from kdbench_schemes._common import Step, Terms

#: Images closer than this fraction of the mean distance count as equal: their direction consists of rounding errors,
#: and its gradient is unbounded. (A labelled image can occur twice in a step.)
EQUAL = 1e-4


class RKD(FeatureScheme):
    """Distances between pairs of images and angles between triplets of images, by Huber's loss.

    Layers of any two shapes can be paired. Memory grows with the cube of the number of images in a step.

    Parameters
    ----------
    pairs
        "auto": the inputs of the last linear layers; or a table of student tap = teacher tap.
    distance_weight
        Weight of the distances, >= 0; published: 25.
    angle_weight
        Weight of the angles, >= 0; published: 50.
    weight
        Weight of both distillation terms, >= 0.
    ce_weight
        Weight of the cross-entropy on the labelled images, >= 0.
    pool
        Distil the unlabelled images too; False: the labelled images only.

    Attributes
    ----------
    minimum_at_teacher
        Loss terms that are minimal if the student equals its teacher.
    """

    minimum_at_teacher = ("distance", "angle")

    def __init__(
        self,
        *,
        pairs: Pairs = "auto",
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
        weight: float = 1.0,
        ce_weight: float = 1.0,
        pool: bool = True,
    ) -> None:
        super().__init__(pairs=pairs, ce_weight=ce_weight, weight=weight, pool=pool)
        self.distance_weight = check_number("distance_weight", distance_weight, at_least=0)
        self.angle_weight = check_number("angle_weight", angle_weight, at_least=0)
        if not distance_weight and not angle_weight:
            raise ValueError(f"angle_weight={angle_weight!r}: above 0 where distance_weight is 0")

    def auto(self, setup: SchemeSetup) -> Sequence[tuple[str, str]]:
        return penultimate(setup)

    def distil(self, step: Step) -> Terms:
        """{"distance": ..., "angle": ...}, sums over pairs; a term of weight 0 is skipped."""
        pairs, terms = paired(step.run).pairs, {}
        if self.distance_weight:
            terms["distance"] = self.distance_weight * summed(distance_loss, step, pairs)
        if self.angle_weight:
            terms["angle"] = self.angle_weight * summed(angle_loss, step, pairs)
        return terms


@exact
def distance_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Huber's loss between the distances of all pairs of images. No gradient flows into the teacher.

    Distances are relative to each layer's mean distance (eqs. (4)-(6)); the loss is averaged over the b x b pairs.

    Parameters
    ----------
    student
        (b, ...).
    teacher
        (b, ...) of any other shape.

    Returns
    -------
    Tensor
        A scalar >= 0; 0 if one layer is a rotation, translation and scaling of the other.
    """
    from torch.nn import functional as F

    return F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher.detach()))


@exact
def angle_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Huber's loss between the angles of all triplets of images. No gradient flows into the teacher.

    Angles are compared by their cosines (eqs. (7) and (8)), averaged over the b x b x b triplets as in the authors'
    code. Deviation: triplets with two equal images (see `EQUAL`) count as 0.

    Parameters
    ----------
    student
        (b, ...).
    teacher
        (b, ...) of any other shape.

    Returns
    -------
    Tensor
        A scalar >= 0; 0 if one layer is a rotation, translation and scaling of the other.
    """
    from torch.nn import functional as F

    return F.smooth_l1_loss(_cosines(student), _cosines(teacher.detach()))


def _differences(features: torch.Tensor) -> torch.Tensor:
    """Differences of all pairs (b, b, d)."""
    features = features.flatten(1)
    return features[None] - features[:, None]


def _relative_distances(features: torch.Tensor) -> torch.Tensor:
    """Distances (b, b) over the mean of the non-zero ones."""
    distances = _differences(features).norm(dim=2)
    return distances / (distances.sum() / (distances > 0).sum().clamp(min=1)).clamp(min=1e-12)


def _cosines(features: torch.Tensor) -> torch.Tensor:
    """Cosines (b, b, b) of the angle at each image between the directions to two others."""
    import torch

    differences = _differences(features)
    distances = differences.norm(dim=2, keepdim=True)
    apart = distances > EQUAL * distances.detach().mean()
    directions = torch.where(apart, differences / torch.where(apart, distances, 1.0), 0.0)
    return directions @ directions.transpose(1, 2)
