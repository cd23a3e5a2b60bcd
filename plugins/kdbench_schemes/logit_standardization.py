"""Sun, Ren, Li, Wang & Cao, "Logit standardization in knowledge distillation" (CVPR 2024; arXiv 2403.01427)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.api import check_number
from kdbench_schemes._common import DistillationScheme, Step, exact, soft_kl

if TYPE_CHECKING:
    import torch

    from kdbench_schemes._common import Terms

#: Added to the standard deviation, as in the paper's code.
EPSILON = 1e-7


class LogitStandardization(DistillationScheme):
    """Hinton's loss on logits standardised per image to zero mean and unit standard deviation (Algorithm 1).

    The student need not match the teacher's range, only the relations between its logits. The weight 9, ten
    times the usual one, is the authors' choice for plain distillation.

    Parameters
    ----------
    temperature
        Base temperature T of the standardised logits, > 0.
    ce_weight
        Weight of the cross-entropy on the labelled images, >= 0.
    weight
        Weight of the distillation term, >= 0.
    pool
        Distil the unlabelled images too; False: the labelled images only, as published.

    Attributes
    ----------
    t2_scaling
        Whether the loss is scaled with T², or has no temperature.
    minimum_at_teacher
        Loss terms that are minimal if the student equals its teacher.
    """

    t2_scaling = True
    minimum_at_teacher = ("kl",)

    def __init__(
        self, *, temperature: float = 2.0, ce_weight: float = 0.1, weight: float = 9.0, pool: bool = True
    ) -> None:
        super().__init__(ce_weight=ce_weight, weight=weight, pool=pool)
        self.temperature = check_number("temperature", temperature, above=0)

    def distil(self, step: Step) -> Terms:
        """{"kl": T² * KL between standardised logits}."""
        t = self.temperature
        student, teacher = standardised(step.logits), standardised(step.teacher_logits)
        return {"kl": t**2 * soft_kl(student, teacher, temperature=t)}


@exact
def standardised(logits: torch.Tensor) -> torch.Tensor:
    """Standardise logits (b, n_classes) to zero mean and unit (unbiased) standard deviation per image.

    Invariant to positive scaling and shifts of the logits.
    """
    spread = logits.std(1, keepdim=True)
    return (logits - logits.mean(1, keepdim=True)) / (spread + EPSILON)
