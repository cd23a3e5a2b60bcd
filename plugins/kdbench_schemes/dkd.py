"""Zhao, Cui, Song, Qiu & Liang, "Decoupled knowledge distillation" (CVPR 2022; arXiv 2203.08679)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.api import check_number
from kdbench_schemes._common import DistillationScheme, Step, exact

if TYPE_CHECKING:
    import torch

    from kdbench.api import SchemeRun
    from kdbench_schemes._common import Terms


class DKD(DistillationScheme):
    """ce_weight * CE + weight * T² * (alpha * TCKD + beta * NCKD), eq. (7): the KL of Hinton's loss taken apart.

    TCKD compares how sure the two networks are of the target class; NCKD compares how each spreads what is left
    over the other classes. Where the label isn't known (unlabelled images, which the paper doesn't have) the
    target class is the teacher's first choice.

    Args:
        temperature: T > 0.
        alpha: of TCKD, >= 0.
        beta: of NCKD, >= 0; the paper takes 8 for most pairs, 2 and 6 for pairs of one family.
        warmup: share of the training over which the distillation's weight rises from epoch to epoch, 0..1; the
            code takes 20 of 240 epochs.
        ce_weight: of the cross-entropy on the labelled images, >= 0.
        weight: of both distillation terms, >= 0.
        pool: distil the unlabelled images too; False: the labelled ones alone, as published.
    """

    t2_scaling = True
    minimum_at_teacher = ("tckd", "nckd")

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        alpha: float = 1.0,
        beta: float = 8.0,
        warmup: float = 1 / 12,
        ce_weight: float = 1.0,
        weight: float = 1.0,
        pool: bool = True,
    ) -> None:
        super().__init__(ce_weight=ce_weight, weight=weight, pool=pool)
        self.temperature = check_number("temperature", temperature, above=0)
        self.alpha = check_number("alpha", alpha, at_least=0)
        self.beta = check_number("beta", beta, at_least=0)
        self.warmup = check_number("warmup", warmup, at_least=0, at_most=1)

    def weight_at(self, run: SchemeRun) -> float:
        """`weight`, or the share of it that the warm-up allows in this epoch."""
        rising = self.warmup * run.epochs
        return self.weight * min(1.0, (run.epoch + 1) / rising) if rising else self.weight

    def distil(self, step: Step) -> Terms:
        """{"tckd": alpha * T² * TCKD, "nckd": beta * T² * NCKD}."""
        import torch

        teacher = step.teacher_logits
        unlabelled = teacher[step.n_labelled :].argmax(1)
        target = torch.cat([step.labels, unlabelled])
        t = self.temperature
        tckd, nckd = decoupled_kl(step.logits, teacher, target, temperature=t)
        return {"tckd": self.alpha * t**2 * tckd, "nckd": self.beta * t**2 * nckd}


@exact
def decoupled_kl(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    target: torch.Tensor,
    *,
    temperature: float = 4.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """TCKD and NCKD: KL(teacher || student) over (target, not target), and over the other classes among
    themselves; both averaged over the batch, in nats, without a factor T².

    With p the teacher's probability of the target, KL = TCKD + mean((1 - p) * NCKD of each image) (eq. (6)).

    Args:
        student_logits: (b, n_classes), n_classes >= 2.
        teacher_logits: (b, n_classes); no gradient flows into it.
        target: int64 (b,).
    """
    import torch
    from torch.nn import functional as F

    def taken_apart(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        at = target[:, None]
        places = torch.arange(logits.shape[1] - 1, device=logits.device)
        others = logits.gather(1, places + (places >= at))
        rest = torch.logsumexp(others, dim=1, keepdim=True)
        pair = torch.cat([logits.gather(1, at), rest], dim=1)
        return F.log_softmax(pair, dim=1), F.log_softmax(others, dim=1)

    student = taken_apart(student_logits / temperature)
    teacher = taken_apart(teacher_logits.detach() / temperature)
    tckd, nckd = (
        F.kl_div(s, t, reduction="batchmean", log_target=True) for s, t in zip(student, teacher, strict=True)
    )
    return tckd, nckd
