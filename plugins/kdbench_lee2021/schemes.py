"""The paper's two training schemes of a student (LW sections 3.1 and 4.2)."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Literal

# torch is imported in the functions that use it, so that checking a suite's parameters does not load it
if TYPE_CHECKING:
    import torch

    from kdbench.api import Batch, SchemeRun

    Losses = Generator[Mapping[str, torch.Tensor], None, None]

Direction = Literal["teacher||student", "student||teacher"]

DIRECTIONS = ("teacher||student", "student||teacher")
ALTERNATIONS = ("epoch", "batch")
REDUCTIONS = ("batchmean", "sum")


class Undistilled:
    """Cross-entropy on the labelled images: LW's undistilled student (UD).

    Parameters
    ----------
    passes
        Passes over the labelled images per epoch, >= 1; LW: 1. In a short training, more passes give the
        undistilled student as many steps as the distilled student takes on its larger set.
    """

    def __init__(self, *, passes: int = 1) -> None:
        if passes < 1:
            raise ValueError(f"passes={passes!r}: at least 1")
        self.passes = passes

    def epoch(self, run: SchemeRun) -> Losses:
        """Yield {"cross_entropy": loss} for every labelled batch."""
        for _ in range(self.passes):
            for batch in run.labelled():
                yield _supervised(run, batch)


class KL:
    """LW's cyclical update: cross-entropy on labelled images, then KL to the teacher on unlabelled ones.

    Eq. (1) prints KL(student, teacher), summed over the set, without a factor T^2. Assumption LW-A5: the usual
    direction KL(teacher || student), averaged over a batch. Assumption LW-A6: complete passes alternate within
    an epoch, with one optimiser and schedule.

    Parameters
    ----------
    temperature
        Temperature T of both softmax outputs, > 0; LW: 4.
    direction
        "teacher||student" (LW-A5), or "student||teacher" as printed in eq. (1).
    t2_scaling
        Multiply by T^2, so that the size of gradients does not depend on T; LW do not. Without it, a teacher
        with small logits is nearly uniform at T = 4 and has little effect.
    alternation
        "epoch" (LW-A6): a labelled pass, then an unlabelled pass; "batch": labelled and unlabelled batches
        alternate, then the rest of the longer pass.
    reduction
        "batchmean" (LW-A5): divide by the batch size; "sum": as printed in eq. (1).
    """

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        direction: Direction = "teacher||student",
        t2_scaling: bool = False,
        alternation: Literal["epoch", "batch"] = "epoch",
        reduction: Literal["batchmean", "sum"] = "batchmean",
    ) -> None:
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature={temperature!r}: a positive number")
        _one_of("direction", direction, DIRECTIONS)
        _one_of("alternation", alternation, ALTERNATIONS)
        _one_of("reduction", reduction, REDUCTIONS)
        self.temperature = temperature
        self.direction: Direction = direction
        self.t2_scaling = t2_scaling
        self.alternation = alternation
        self.reduction: Literal["batchmean", "sum"] = reduction

    def epoch(self, run: SchemeRun) -> Losses:
        """Yield {"cross_entropy": loss} for labelled batches and {"kl": loss} for unlabelled ones."""
        labelled = (_supervised(run, batch) for batch in run.labelled())
        unlabelled = (self._distilled(run, batch) for batch in run.unlabelled())
        if self.alternation == "epoch":
            yield from labelled
            yield from unlabelled
        else:
            yield from _alternate(labelled, unlabelled)

    def _distilled(self, run: SchemeRun, batch: Batch) -> dict[str, torch.Tensor]:
        loss = kl_divergence(
            run.student(batch.images),
            run.teacher_logits(batch),
            temperature=self.temperature,
            direction=self.direction,
            t2_scaling=self.t2_scaling,
            reduction=self.reduction,
        )
        return {"kl": loss}


def kl_divergence(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    *,
    temperature: float = 4.0,
    direction: Direction = "teacher||student",
    t2_scaling: bool = False,
    reduction: Literal["batchmean", "sum"] = "batchmean",
) -> torch.Tensor:
    """KL divergence between two softmax outputs, in nats (LW eq. (1)).

    Parameters
    ----------
    student_logits
        (b, n_classes), any float dtype; computed in float32, or float64 if the logits are.
    teacher_logits
        (b, n_classes); no gradient flows into it.
    temperature
        Temperature of both softmax outputs, > 0.
    direction
        "teacher||student" or "student||teacher".
    t2_scaling
        Multiply by the squared temperature.
    reduction
        "batchmean" divides the sum by b; "sum" does not.

    Returns
    -------
    Tensor
        A scalar >= 0, 0 if the softmax outputs are equal.

    Raises
    ------
    ValueError
        The shapes differ or are not (b, n_classes).
    """
    if student_logits.shape != teacher_logits.shape or student_logits.ndim != 2:
        raise ValueError(
            f"student logits {tuple(student_logits.shape)} and teacher logits {tuple(teacher_logits.shape)} "
            "must have the same shape (b, n_classes)"
        )
    import torch
    from torch.nn import functional as F

    with torch.autocast(student_logits.device.type, enabled=False):
        student = F.log_softmax(_at_least_float32(student_logits) / temperature, dim=1)
        teacher = F.log_softmax(_at_least_float32(teacher_logits.detach()) / temperature, dim=1)
        target, other = (teacher, student) if direction == "teacher||student" else (student, teacher)
        loss = F.kl_div(other, target, reduction=reduction, log_target=True)
        return loss * temperature**2 if t2_scaling else loss


def _supervised(run: SchemeRun, batch: Batch) -> dict[str, torch.Tensor]:
    if batch.labels is None:
        raise ValueError("a labelled batch has no labels")
    import torch
    from torch.nn import functional as F

    logits = run.student(batch.images)
    with torch.autocast(logits.device.type, enabled=False):
        return {"cross_entropy": F.cross_entropy(_at_least_float32(logits), batch.labels)}


def _at_least_float32(logits: torch.Tensor) -> torch.Tensor:
    return logits if logits.element_size() == 8 else logits.float()


def _alternate(first: Iterator[dict[str, torch.Tensor]], second: Iterator[dict[str, torch.Tensor]]) -> Losses:
    """Alternate between both, then the rest of the longer one. Lazy: a loss is computed when its step is due."""
    remaining = [first, second]
    while remaining:
        for source in tuple(remaining):
            item = next(source, None)
            if item is None:
                remaining.remove(source)
            else:
                yield item


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}={value!r}: " + " or ".join(repr(a) for a in allowed))
