"""Hinton, Vinyals & Dean, "Distilling the knowledge in a neural network" (arXiv 1503.02531)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.api import check_number
from kdbench_schemes._common import DistillationScheme, Step, soft_kl

if TYPE_CHECKING:
    from kdbench_schemes._common import Terms


class Hinton(DistillationScheme):
    """Soft targets: ce_weight * CE + weight * T² * KL(teacher || student) at temperature T (section 2).

    The factor T² keeps the gradient's size whatever T is. The weights 0.1 and 0.9 at T = 4 are those of the usual
    CIFAR-100 tables (CRD's and DKD's code), which train on labelled images alone (`pool=False`).

    Args:
        temperature: T > 0.
        ce_weight: of the cross-entropy on the labelled images, >= 0.
        weight: of the distillation term, >= 0.
        pool: distil the unlabelled images too; False: the labelled ones alone.
    """

    t2_scaling = True
    minimum_at_teacher: tuple[str, ...] = ("kl",)

    def __init__(
        self, *, temperature: float = 4.0, ce_weight: float = 0.1, weight: float = 0.9, pool: bool = True
    ) -> None:
        super().__init__(ce_weight=ce_weight, weight=weight, pool=pool)
        self.temperature = check_number("temperature", temperature, above=0)

    def distil(self, step: Step) -> Terms:
        """{"kl": T² * KL}."""
        t = self.temperature
        return {"kl": t**2 * soft_kl(step.logits, step.teacher_logits, temperature=t)}
