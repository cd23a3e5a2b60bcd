"""Furlanello, Lipton, Tschannen, Itti & Anandkumar, "Born-again neural networks" (ICML 2018; arXiv 1805.04770)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.api import check_integer, check_number
from kdbench_schemes._common import DistillationScheme, Step, soft_kl

if TYPE_CHECKING:
    from kdbench_schemes._common import Terms


class BornAgain(DistillationScheme):
    """Students of one architecture in a row, each from new initial weights and taught by the one before.

    The first teacher learned from the labels alone. The loss is CE + cross-entropy to the teacher's outputs
    (section 3.1), here as KL: the same gradient, and 0 where the outputs are equal. What is evaluated is the last
    generation; the paper's ensembles of generations are not made.

    Args:
        generations: students in a row, at least 1; the paper: up to 3.
        temperature: T > 0; the paper: 1. The term is multiplied by T².
        ce_weight: of the cross-entropy on the labelled images, >= 0.
        weight: of the distillation term, >= 0.
        pool: distil the unlabelled images too; False: the labelled ones alone, as published.
    """

    t2_scaling = True
    minimum_at_teacher = ("kl",)

    def __init__(
        self,
        *,
        generations: int = 3,
        temperature: float = 1.0,
        ce_weight: float = 1.0,
        weight: float = 1.0,
        pool: bool = True,
    ) -> None:
        super().__init__(ce_weight=ce_weight, weight=weight, pool=pool)
        self.generations = check_integer("generations", generations, at_least=1)
        self.temperature = check_number("temperature", temperature, above=0)

    def distil(self, step: Step) -> Terms:
        """{"kl": T² * KL to the generation before}."""
        t = self.temperature
        return {"kl": t**2 * soft_kl(step.logits, step.teacher_logits, temperature=t)}
