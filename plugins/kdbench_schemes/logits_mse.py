"""Ba & Caruana, "Do deep nets really need to be deep?" (NeurIPS 2014; arXiv 1312.6184)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kdbench.api import check_choice
from kdbench_schemes._common import DistillationScheme, Step, exact

if TYPE_CHECKING:
    import torch

    from kdbench_schemes._common import Terms

VARIANTS = ("paper", "code")


class LogitsMSE(DistillationScheme):
    """Regression on the teacher's logits: ce_weight * CE + weight * squared distance (section 2.1, eq. (1)).

    The paper's student learns from the logits only, with half the squared distance summed over classes. Public
    code (KD-Zoo) adds the cross-entropy and averages over classes, which makes the size of the gradient independent
    of the number of classes. No source prescribes weights for both terms; 1 and 1 are kdbench's choice.

    Parameters
    ----------
    variant
        "code": mean over classes; "paper": half the sum over classes.
    ce_weight
        Weight of the cross-entropy on the labelled images, >= 0. The paper: 0.
    weight
        Weight of the distillation term, >= 0.
    pool
        Distil the unlabelled images too; False: the labelled images only.

    Attributes
    ----------
    t2_scaling
        Whether the loss is scaled with T², or has no temperature.
    minimum_at_teacher
        Loss terms that are minimal if the student equals its teacher.
    """

    t2_scaling = True  # the loss has no temperature
    minimum_at_teacher = ("mse",)

    def __init__(
        self,
        *,
        variant: Literal["paper", "code"] = "code",
        ce_weight: float = 1.0,
        weight: float = 1.0,
        pool: bool = True,
    ) -> None:
        super().__init__(ce_weight=ce_weight, weight=weight, pool=pool)
        self.variant = check_choice("variant", variant, VARIANTS)

    def distil(self, step: Step) -> Terms:
        """{"mse": squared distance}."""
        return {"mse": squared_distance(step.logits, step.teacher_logits, variant=self.variant)}


@exact
def squared_distance(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, *, variant: str = "code"
) -> torch.Tensor:
    """Squared distance between logits (b, n_classes), averaged over the batch.

    The mean over classes ("code") or half the sum over classes ("paper"). A scalar >= 0, 0 if they are equal.
    """
    squares = (student_logits - teacher_logits.detach()).square()
    return squares.mean() if variant == "code" else 0.5 * squares.sum(1).mean()
