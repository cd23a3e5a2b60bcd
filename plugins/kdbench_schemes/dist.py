"""Huang, You, Wang, Qian & Xu, "Knowledge distillation from a stronger teacher" (NeurIPS 2022; arXiv 2205.10536)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.api import check_number
from kdbench_schemes._common import DistillationScheme, Step, exact

if TYPE_CHECKING:
    import torch

    from kdbench_schemes._common import Terms


class DIST(DistillationScheme):
    """ce_weight * CE + weight * T² * (beta * inter + gamma * intra), eq. (10): correlation instead of KL.

    Softmax outputs need not be equal, only linearly related: over the classes of each image (inter-class relation)
    and over the images of a batch for each class (intra-class relation).

    Parameters
    ----------
    temperature
        Temperature T of both softmax outputs, > 0. 4 for CIFAR-100, 1 for ImageNet.
    beta
        Weight of the inter-class term, >= 0; 2 in the paper, 1 in its code.
    gamma
        Weight of the intra-class term, >= 0; 2 in the paper, 1 in its code.
    ce_weight
        Weight of the cross-entropy on the labelled images, >= 0.
    weight
        Weight of both distillation terms, >= 0.
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
    minimum_at_teacher = ("inter", "intra")

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        beta: float = 2.0,
        gamma: float = 2.0,
        ce_weight: float = 1.0,
        weight: float = 1.0,
        pool: bool = True,
    ) -> None:
        super().__init__(ce_weight=ce_weight, weight=weight, pool=pool)
        self.temperature = check_number("temperature", temperature, above=0)
        self.beta = check_number("beta", beta, at_least=0)
        self.gamma = check_number("gamma", gamma, at_least=0)

    def distil(self, step: Step) -> Terms:
        """{"inter": beta * T² * distance over classes, "intra": gamma * T² * distance over images}."""
        t = self.temperature
        student, teacher = softened(step.logits, t), softened(step.teacher_logits, t)
        inter = correlation_distance(student, teacher)
        intra = correlation_distance(student.T, teacher.T)
        return {"inter": self.beta * t**2 * inter, "intra": self.gamma * t**2 * intra}


@exact
def softened(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """softmax(logits / T) of (b, n_classes)."""
    return (logits / temperature).softmax(1)


@exact
def correlation_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """1 - Pearson's correlation between the rows of two (n, m) matrices, averaged over rows: 0..2.

    Invariant to positive scaling and shifts of the student's rows. The correlation of a constant row is 0. No
    gradient flows into the teacher.
    """
    from torch.nn import functional as F

    a = F.normalize(student - student.mean(1, keepdim=True), dim=1)
    b = F.normalize(teacher.detach() - teacher.detach().mean(1, keepdim=True), dim=1)
    return 1 - (a * b).sum(1).mean()
