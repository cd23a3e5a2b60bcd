"""Chen, Kornblith, Swersky, Norouzi & Hinton, "Big self-supervised models are strong semi-supervised learners"
(NeurIPS 2020; arXiv 2006.10029)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kdbench.api import check_choice, check_number
from kdbench_schemes._common import DistillationScheme, Step, soft_kl

if TYPE_CHECKING:
    from kdbench_schemes._common import Terms

LABELS = ("none", "mixed")


class SimCLR2(DistillationScheme):
    """Distillation without labels from a teacher that was pretrained without labels and then fine-tuned.

    labels="none" is eq. (2): the cross-entropy between teacher and student outputs at temperature T over all images.
    labels="mixed" is eq. (3): (1 - alpha) * CE on the labelled images + alpha * eq. (2). The term is computed as KL:
    the same gradient, and 0 if the outputs are equal.

    Deviation: images have the recipe's augmentation; the paper distils with the crops and colours of the
    pretraining.

    Parameters
    ----------
    labels
        "none" (eq. (2)) or "mixed" (eq. (3)).
    alpha
        Weight of the distillation term with "mixed", 0..1.
    temperature
        Temperature T of both softmax outputs, > 0. The term is not multiplied by T².
    pool
        Distil the unlabelled images too; False: the labelled images only.

    Attributes
    ----------
    minimum_at_teacher
        Loss terms that are minimal if the student equals its teacher.
    """

    minimum_at_teacher = ("kl",)

    def __init__(
        self,
        *,
        labels: Literal["none", "mixed"] = "none",
        alpha: float = 0.5,
        temperature: float = 1.0,
        pool: bool = True,
    ) -> None:
        self.labels = check_choice("labels", labels, LABELS)
        self.alpha = check_number("alpha", alpha, at_least=0, at_most=1)
        share = alpha if labels == "mixed" else 1.0
        super().__init__(ce_weight=1 - share, weight=share, pool=pool)
        self.temperature = check_number("temperature", temperature, above=0)

    def distil(self, step: Step) -> Terms:
        """{"kl": KL to the teacher}."""
        return {"kl": soft_kl(step.logits, step.teacher_logits, temperature=self.temperature)}
