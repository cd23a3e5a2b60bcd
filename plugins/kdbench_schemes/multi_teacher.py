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

    The average of softmax outputs is the ensemble's prediction. The average of logits is a geometric mean, which
    weights each teacher by the spread of its logits.

    Parameters
    ----------
    teachers
        Number of teachers, >= 2.
    average
        What to average: "probabilities" at temperature T, or "logits".
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
        ensemble = ensemble_logits(step.teachers_logits, average=self.average, temperature=t)
        return {"kl": t**2 * soft_kl(step.logits, ensemble, temperature=t)}


@exact
def ensemble_logits(
    logits: torch.Tensor, *, average: str = "probabilities", temperature: float = 1.0
) -> torch.Tensor:
    """Average logits (teachers, b, n_classes) to logits (b, n_classes).

    "probabilities": the softmax at `temperature` is the mean of the teachers' softmax outputs; "logits": the mean.
    """
    import math

    import torch

    if average == "logits":
        return logits.mean(0)
    log_p = (logits / temperature).log_softmax(-1)
    return temperature * (torch.logsumexp(log_p, 0) - math.log(len(logits)))
