"""The average of several teachers (Hinton et al. 2015, section 3; You et al., KDD 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kdbench.api import check_choice, check_integer, check_number
from kdbench_schemes._common import DistillationScheme, Step, exact, soft_kl

if TYPE_CHECKING:
    import torch

    from kdbench_schemes._common import Terms

AVERAGES = ("probabilities", "logits")


class MultiTeacher(DistillationScheme):
    """ce_weight * CE + weight * T² * KL(average of the teachers || student) at temperature T.

    The average of softmax outputs is the ensemble's prediction; that of logits is a geometric mean, which gives
    each teacher a say according to how far apart its logits lie.

    Args:
        teachers: how many, at least 2.
        average: "probabilities" at temperature T, or "logits".
        temperature: T > 0.
        ce_weight: of the cross-entropy on the labelled images, >= 0.
        weight: of the distillation term, >= 0.
        pool: distil the unlabelled images too; False: the labelled ones alone.
    """

    t2_scaling = True
    minimum_at_teacher = ("kl",)

    def __init__(
        self,
        *,
        teachers: int = 3,
        average: Literal["probabilities", "logits"] = "probabilities",
        temperature: float = 4.0,
        ce_weight: float = 0.1,
        weight: float = 0.9,
        pool: bool = True,
    ) -> None:
        super().__init__(ce_weight=ce_weight, weight=weight, pool=pool)
        self.teachers = check_integer("teachers", teachers, at_least=2)
        self.average = check_choice("average", average, AVERAGES)
        self.temperature = check_number("temperature", temperature, above=0)

    def distil(self, step: Step) -> Terms:
        """{"kl": T² * KL to the average}."""
        t = self.temperature
        together = ensemble_logits(step.teachers_logits, average=self.average, temperature=t)
        return {"kl": t**2 * soft_kl(step.logits, together, temperature=t)}


@exact
def ensemble_logits(
    logits: torch.Tensor, *, average: str = "probabilities", temperature: float = 1.0
) -> torch.Tensor:
    """(teachers, b, n_classes) logits to (b, n_classes) logits whose softmax at `temperature` is the mean of the
    teachers' there ("probabilities"), or to their plain mean ("logits")."""
    import math

    import torch

    if average == "logits":
        return logits.mean(0)
    each = (logits / temperature).log_softmax(-1)
    return temperature * (torch.logsumexp(each, 0) - math.log(len(logits)))
