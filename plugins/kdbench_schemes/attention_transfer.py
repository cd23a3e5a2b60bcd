"""Zagoruyko & Komodakis, "Paying more attention to attention" (ICLR 2017, arXiv 1612.03928)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from kdbench.api import check_choice
from kdbench_schemes._common import exact
from kdbench_schemes._features import FeatureScheme, paired, summed
from kdbench_schemes._pairs import Pair, Pairs, is_map, stages

if TYPE_CHECKING:
    import torch

    from kdbench.api import SchemeSetup
    from kdbench_schemes._common import Step, Terms

Variant = Literal["paper", "code"]
VARIANTS = ("paper", "code")


class AttentionTransfer(FeatureScheme):
    """Attention maps: the mean square over channels at each pixel of a map, as a unit vector.

    Parameters
    ----------
    variant
        "code": squared differences averaged over pixels and images, as in the authors' code; "paper": half
        the distance of the unit vectors, averaged over images and divided by the number of pixels (eq. (2),
        with beta = 10^3 / (pixels x batch size) of section 4.1).
    pairs
        "auto": the last tap of each stage, paired from the output; or a table of student tap = teacher tap.
    weight
        Weight of the sum over pairs, >= 0; published: 1000 for both variants.
    ce_weight
        Weight of the cross-entropy on the labelled images, >= 0.
    pool
        Distil the unlabelled images too; False: the labelled images only.

    Attributes
    ----------
    minimum_at_teacher
        Loss terms that are minimal if the student equals its teacher.
    """

    minimum_at_teacher = ("attention",)

    def __init__(
        self,
        *,
        variant: Variant = "code",
        pairs: Pairs = "auto",
        weight: float = 1000.0,
        ce_weight: float = 1.0,
        pool: bool = True,
    ) -> None:
        super().__init__(pairs=pairs, ce_weight=ce_weight, weight=weight, pool=pool)
        check_choice("variant", variant, VARIANTS)
        self.variant: Variant = variant

    def auto(self, setup: SchemeSetup) -> Sequence[tuple[str, str]]:
        return stages(setup)

    def refuse(self, pair: Pair) -> str:
        if is_map(pair.student_shape) and is_map(pair.teacher_shape):
            return ""
        return "attention needs maps (c, h, w) larger than 1x1"

    def distil(self, step: Step) -> Terms:
        """{"attention": the sum over pairs}."""
        loss = partial(attention_loss, variant=self.variant)
        return {"attention": summed(loss, step, paired(step.run).pairs)}


@exact
def attention_loss(
    student: torch.Tensor, teacher: torch.Tensor, *, variant: Variant = "code"
) -> torch.Tensor:
    """Distance between the attention maps of two layers. No gradient flows into the teacher.

    Parameters
    ----------
    student
        (b, c, h, w).
    teacher
        (b, c', h', w'); the larger maps are averaged down to the smaller size.
    variant
        "code" or "paper", see `AttentionTransfer`.

    Returns
    -------
    Tensor
        A scalar >= 0; 0 if one layer is a positive or negative multiple of the other.
    """
    from torch.nn import functional as F

    from kdbench_schemes._adapters import to_common_size

    student, teacher = to_common_size(student, teacher.detach())
    q_s, q_t = (F.normalize(f.square().mean(1).flatten(1)) for f in (student, teacher))
    if variant == "paper":
        return (q_s - q_t).norm(dim=1).mean() / (2 * q_s.shape[1])
    return (q_s - q_t).square().mean()
