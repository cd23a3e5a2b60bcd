"""How the schemes of this package walk through data, and what one step of them is made of."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from kdbench.api import check_number

# torch is imported where it is used: a suite is checked against constructors before anything runs
if TYPE_CHECKING:
    import torch

    from kdbench.api import Batch, Outputs, SchemeRun

    Terms = Mapping[str, torch.Tensor]
    Losses = Generator[Terms, None, None]

Function = TypeVar("Function", bound=Callable[..., Any])


def exact(loss: Function) -> Function:
    """A loss computed in float32, or in float64 where given: tensors of fewer digits are widened, and autocast
    is off inside."""

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
    """The images of one optimiser step, labelled ones first, and what the networks say of them.

    The student sees them in one concatenated forward pass; every answer is computed once, when it is asked for.

    Args:
        run: the training.
        labelled: a batch of labelled images.
        unlabelled: a batch of unlabelled ones, or None.
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
        together = torch.cat([b.images for b in self.batches])
        return together.contiguous(memory_format=torch.channels_last)

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
    """The steps of an epoch: one pass over the unlabelled images, a full labelled batch beside each batch of
    them; or one pass over the labelled images where there are no unlabelled ones, or `pool` is False."""
    if pool and run.n_unlabelled:
        labelled = run.labelled_stream()
        for unlabelled in run.unlabelled():
            yield Step(run, next(labelled), unlabelled)
    else:
        for batch in run.labelled():
            yield Step(run, batch)


class DistillationScheme:
    """ce_weight * cross-entropy on a step's labelled images + weight * what `distil` says of all its images.

    Args:
        ce_weight: >= 0.
        weight: >= 0; at 0 the student learns from its labels alone.
        pool: distil the unlabelled images too; False: the labelled ones alone, as most papers train.
    """

    #: Terms that are least where the student equals its teacher; the conformance checks hold a scheme to it.
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
        """What the labels say of a step's labelled images, before `ce_weight`."""
        return cross_entropy(step.logits[: step.n_labelled], step.labels)

    def epoch(self, run: SchemeRun) -> Losses:
        """Yield {"cross_entropy": ..., and the terms of `distil`}, weighted; terms of weight 0 are left out."""
        for step in steps(run, pool=self.pool):
            yield self.terms(step)

    def terms(self, step: Step) -> Terms:
        """What one step yields."""
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
    """KL(teacher || student) between softmax outputs at `temperature`, summed over classes and averaged over the
    batch, in nats, without a factor T². No gradient flows into the teacher.

    Args:
        student_logits: (b, n_classes).
        teacher_logits: (b, n_classes).

    Returns:
        A scalar >= 0, 0 where the softmax outputs are equal.
    """
    from torch.nn import functional as F

    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)
