"""Hinton, Vinyals & Dean, "Distilling the knowledge in a neural network" (arXiv 1503.02531)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.api import check_number
from kdbench_schemes._common import DistillationScheme, Step, soft_kl

if TYPE_CHECKING:
    from kdbench_schemes._common import Terms


class Hinton(DistillationScheme):
    """Soft targets: ce_weight * CE + weight * T² * KL(teacher || student) at temperature T (section 2).

    The factor T² makes the size of the gradient independent of T. The weights 0.1 and 0.9 at T = 4 are those of the
    usual CIFAR-100 tables (code of CRD and DKD), which train on labelled images only (`pool=False`).

    Parameters
    ----------
    temperature
        Temperature T of both softmax outputs, > 0.
    ce_weight
        Weight of the cross-entropy on the labelled images, >= 0.
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
