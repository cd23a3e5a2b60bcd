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
    """Where the networks look: the energy of all channels at each place of a map, as a unit vector.

    Args:
        variant: "code": the mean of the squared differences over places and images, as the authors' code has it;
            "paper": half the distance of the unit vectors, averaged over images and divided by the number of
            places (eq. (2), with beta = 10^3 / (places x batch size) as section 4.1 says).
        pairs: "auto": the ends of the stages, counted from the output; or a table of student tap = teacher tap.
        weight: of the sum over pairs, >= 0; published: 1000 for both variants.
        ce_weight: of the cross-entropy on the labelled images, >= 0.
        pool: distil the unlabelled images too; False: the labelled ones alone.
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
        return "attention is over the places of a map (c, h, w); one place has none"

    def distil(self, step: Step) -> Terms:
        """{"attention": the sum over pairs}."""
        loss = partial(attention_loss, variant=self.variant)
        return {"attention": summed(loss, step, paired(step.run).pairs)}


@exact
def attention_loss(
    student: torch.Tensor, teacher: torch.Tensor, *, variant: Variant = "code"
) -> torch.Tensor:
    """How far the attention maps of two layers are apart. No gradient flows into the teacher.

    Args:
        student: (b, c, h, w).
        teacher: (b, c', h', w'); the larger maps of the two are averaged down to the smaller size.

    Returns:
        A scalar >= 0; 0 where one layer is a multiple of the other, of whatever sign.
    """
    from torch.nn import functional as F

    from kdbench_schemes._adapters import to_common_size

    student, teacher = to_common_size(student, teacher.detach())
    q_s, q_t = (F.normalize(f.square().mean(1).flatten(1)) for f in (student, teacher))
    if variant == "paper":
        return (q_s - q_t).norm(dim=1).mean() / (2 * q_s.shape[1])
    return (q_s - q_t).square().mean()
