"""Common parts of the schemes: the steps of an epoch, the base class and basic losses."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from kdbench.api import check_number

# torch is imported in the functions that use it, so that checking a suite's parameters does not load it
if TYPE_CHECKING:
    import torch

    from kdbench.api import Batch, Outputs, SchemeRun

    Terms = Mapping[str, torch.Tensor]
    Losses = Generator[Terms, None, None]

Function = TypeVar("Function", bound=Callable[..., Any])


def exact(loss: Function) -> Function:
    """Decorate a loss so that it is computed in float32 or float64, without autocast.

    Tensors of lower precision are converted to float32.
    """

    @functools.wraps(loss)
    def widened(*args: Any, **kwargs: Any) -> Any:
        import torch

        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor)]
        with torch.autocast(tensors[0].device.type, enabled=False):
            return loss(*map(_wide, args), **{k: _wide(v) for k, v in kwargs.items()})

    return widened  # type: ignore[return-value]


def _wide(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor) and value.is_floating_point() and value.element_size() < 4:
        return value.float()
    return value


class Step:
    """The images of one optimiser step, labelled images first, and the outputs of the networks for them.

    The student processes them in one concatenated forward pass. Each output is computed once, on first access.

    Parameters
    ----------
    run
        The training.
    labelled
        A batch of labelled images.
    unlabelled
        A batch of unlabelled images, or None.
    """

    def __init__(self, run: SchemeRun, labelled: Batch, unlabelled: Batch | None = None) -> None:
        if labelled.labels is None:
            raise ValueError("a labelled batch came without labels")
        self.run = run
        self.labelled = labelled
        self.batches = (labelled,) if unlabelled is None else (labelled, unlabelled)
        self.labels: torch.Tensor = labelled.labels  #: int64 (n_labelled,)
        self.n_labelled = len(labelled.labels)

    @functools.cached_property
    def images(self) -> torch.Tensor:
        """(b, c, h, w)."""
        import torch

        if len(self.batches) == 1:
            return self.labelled.images
        images = torch.cat([b.images for b in self.batches])
        return images.contiguous(memory_format=torch.channels_last)

    @functools.cached_property
    def index(self) -> torch.Tensor:
        """int64 (b,), rows of the training split."""
        import torch

        return torch.cat([b.index for b in self.batches])

    @functools.cached_property
    def outputs(self) -> Outputs:
        """The student's logits and activations, with gradients."""
        return self.run.forward(self.images)

    @functools.cached_property
    def logits(self) -> torch.Tensor:
        """float32 (b, n_classes), the student's, with gradients."""
        if "outputs" in self.__dict__:
            return self.outputs.logits
        return self.run.student(self.images).float()

    @functools.cached_property
    def teacher_logits(self) -> torch.Tensor:
        """float32 (b, n_classes), the teacher's for the same views; no gradient."""
        import torch

        if "teacher" in self.__dict__:
            return torch.cat([o.logits for o in self.teacher])
        return torch.cat([self.run.teacher_logits(b) for b in self.batches])

    @functools.cached_property
    def teachers_logits(self) -> torch.Tensor:
        """float32 (teachers, b, n_classes); no gradient."""
        import torch

        return torch.cat([self.run.teachers_logits(b) for b in self.batches], dim=1)

    @functools.cached_property
    def teacher(self) -> tuple[Outputs, ...]:
        """The teacher's logits and activations, batch by batch."""
        return tuple(self.run.teacher_outputs(b) for b in self.batches)

    @functools.cached_property
    def teacher_features(self) -> Mapping[str, torch.Tensor]:
        """The teacher's activations by tap, (b, ...); no gradient."""
        import torch

        return {tap: torch.cat([o.features[tap] for o in self.teacher]) for tap in self.teacher[0].features}

    @functools.cached_property
    def teacher_penultimate(self) -> torch.Tensor:
        """(b, d); no gradient."""
        import torch

        return torch.cat([o.penultimate for o in self.teacher])


def steps(run: SchemeRun, *, pool: bool = True) -> Iterator[Step]:
    """The steps of an epoch: one pass over the unlabelled images, each batch with a full labelled batch.

    Without unlabelled images, or with `pool` False: one pass over the labelled images.
    """
    if pool and run.n_unlabelled:
        labelled = run.labelled_stream()
        for unlabelled in run.unlabelled():
            yield Step(run, next(labelled), unlabelled)
    else:
        for batch in run.labelled():
            yield Step(run, batch)


class DistillationScheme:
    """Base class: ce_weight * cross-entropy on a step's labelled images + weight * `distil` on all its images.

    Parameters
    ----------
    ce_weight
        Weight of the cross-entropy on the labelled images, >= 0.
    weight
        Weight of the distillation terms, >= 0; 0 trains on the labels only.
    pool
        Distil the unlabelled images too; False: the labelled images only.

    Attributes
    ----------
    minimum_at_teacher
        Loss terms that are minimal if the student equals its teacher; verified by the conformance checks.
    """

    minimum_at_teacher: tuple[str, ...] = ()

    def __init__(self, *, ce_weight: float, weight: float, pool: bool) -> None:
        self.ce_weight = check_number("ce_weight", ce_weight, at_least=0)
        self.weight = check_number("weight", weight, at_least=0)
        if not ce_weight and not weight:
            raise ValueError(
                f"weight={weight!r}: above 0 where ce_weight is 0, for nothing is learned otherwise"
            )
        self.pool = pool

    def distil(self, step: Step) -> Terms:
        """The distillation terms of a step by name, before `weight`."""
        raise NotImplementedError

    def weight_at(self, run: SchemeRun) -> float:
        """The weight of the distillation terms at this point of the training."""
        return self.weight

    def supervised(self, step: Step) -> torch.Tensor:
        """The supervised loss on a step's labelled images, before `ce_weight`."""
        return cross_entropy(step.logits[: step.n_labelled], step.labels)

    def epoch(self, run: SchemeRun) -> Losses:
        """Yield {"cross_entropy": ..., and the terms of `distil`}, weighted; terms of weight 0 are skipped."""
        for step in steps(run, pool=self.pool):
            yield self.terms(step)

    def terms(self, step: Step) -> Terms:
        """The weighted terms of one step."""
        weight = self.weight_at(step.run)
        distilled = {k: weight * v for k, v in self.distil(step).items()} if weight else {}
        if not self.ce_weight:
            return distilled
        return {"cross_entropy": self.ce_weight * self.supervised(step), **distilled}


@exact
def cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, *, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Mean cross-entropy of (b, n_classes) logits against int64 (b,) labels, in nats."""
    from torch.nn import functional as F

    return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)


@exact
def soft_kl(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, *, temperature: float = 1.0
) -> torch.Tensor:
    """KL(teacher || student) between softmax outputs, summed over classes and averaged over the batch, in nats.

    Without a factor T². No gradient flows into the teacher.

    Parameters
    ----------
    student_logits
        (b, n_classes).
    teacher_logits
        (b, n_classes).
    temperature
        Temperature T of both softmax outputs, > 0.

    Returns
    -------
    Tensor
        A scalar >= 0, 0 if the softmax outputs are equal.
    """
    from torch.nn import functional as F

    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)
