"""Furlanello, Lipton, Tschannen, Itti & Anandkumar, "Born-again neural networks" (ICML 2018; arXiv 1805.04770)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.api import check_integer, check_number
from kdbench_schemes._common import DistillationScheme, Step, soft_kl

if TYPE_CHECKING:
    from kdbench_schemes._common import Terms


class BornAgain(DistillationScheme):
    """Generations of one architecture, each with new initial weights and the previous generation as teacher.

    The first teacher is trained on the labels only. The loss is CE + cross-entropy to the teacher's outputs
    (section 3.1), computed as KL: the same gradient, and 0 if the outputs are equal. The last generation is
    evaluated; the paper's ensembles of generations are not implemented.

    Parameters
    ----------
    generations
        Number of students trained in sequence, >= 1; the paper: up to 3.
    temperature
        Temperature T of both softmax outputs, > 0. The term is multiplied by T². The paper: 1.
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
        """{"kl": T² * KL to the previous generation}."""
        t = self.temperature
        return {"kl": t**2 * soft_kl(step.logits, step.teacher_logits, temperature=t)}
