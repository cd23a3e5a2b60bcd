"""What a distillation scheme is to be compared with: smoothed labels, teachers that know nothing or say it
garbled, and a student that is its teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kdbench.api import check_choice, check_integer, check_number, moved
from kdbench_schemes._common import Step, cross_entropy, exact, soft_kl
from kdbench_schemes.hinton import Hinton

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from kdbench.api import SchemeRun, SchemeSetup
    from kdbench_schemes._common import Losses, Terms

VARIANTS = ("paper", "code")


class LabelSmoothing:
    """Cross-entropy against (1 - epsilon) * label + epsilon / n_classes on the labelled images (Szegedy et al.,
    "Rethinking the Inception architecture", CVPR 2016, section 7; Müller et al. 2019).

    A soft target without a teacher: what distillation gains from softness alone.

    Args:
        epsilon: 0..1; 0 is plain cross-entropy.
        passes: over the labelled images an epoch, at least 1.
    """

    def __init__(self, *, epsilon: float = 0.1, passes: int = 1) -> None:
        self.epsilon = check_number("epsilon", epsilon, at_least=0, at_most=1)
        self.passes = check_integer("passes", passes, at_least=1)

    def epoch(self, run: SchemeRun) -> Losses:
        """Yield {"cross_entropy": loss} for every labelled batch."""
        for step in _labelled_steps(run, self.passes):
            yield {"cross_entropy": cross_entropy(step.logits, step.labels, label_smoothing=self.epsilon)}


class TfKD:
    """ce_weight * CE + weight * KL to a teacher made by hand, on the labelled images (Yuan, Tay, Li, Wang & Feng,
    "Revisiting knowledge distillation via label smoothing regularization", CVPR 2020, section 5, Tf-KD_reg).

    The virtual teacher is right with probability `correct` and knows nothing of the other classes. In the paper
    both it and the student are softened at T. The code takes the softmax of the virtual teacher's probabilities
    over T, which is all but uniform, and compares it with the student at T = 1; its mean over 100 classes times
    100 is the sum over classes taken here.

    Args:
        variant: "code" or "paper".
        correct: probability of the labelled class, between 0 and 1.
        temperature: T > 0.
        ce_weight: >= 0.
        weight: >= 0.
        passes: over the labelled images an epoch, at least 1.
    """

    def __init__(
        self,
        *,
        variant: Literal["paper", "code"] = "code",
        correct: float = 0.99,
        temperature: float = 20.0,
        ce_weight: float = 0.9,
        weight: float = 0.1,
        passes: int = 1,
    ) -> None:
        self.variant = check_choice("variant", variant, VARIANTS)
        if not 0 < correct < 1:
            raise ValueError(f"correct={correct!r}: a number above 0 and below 1")
        self.correct = correct
        self.temperature = check_number("temperature", temperature, above=0)
        self.ce_weight = check_number("ce_weight", ce_weight, at_least=0)
        self.weight = check_number("weight", weight, at_least=0)
        if not ce_weight and not weight:
            raise ValueError(
                f"weight={weight!r}: above 0 where ce_weight is 0, for nothing is learned otherwise"
            )
        self.passes = check_integer("passes", passes, at_least=1)

    def epoch(self, run: SchemeRun) -> Losses:
        """Yield {"cross_entropy": ..., "kl": ...} for every labelled batch; a term of weight 0 is left out."""
        for step in _labelled_steps(run, self.passes):
            yield self._terms(step)

    def _terms(self, step: Step) -> Terms:
        terms = {}
        if self.ce_weight:
            terms["cross_entropy"] = self.ce_weight * cross_entropy(step.logits, step.labels)
        if self.weight:
            found = virtual_teacher_kl(
                step.logits,
                step.labels,
                correct=self.correct,
                temperature=self.temperature,
                variant=self.variant,
            )
            terms["kl"] = self.weight * found
        return terms


@exact
def virtual_teacher_kl(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    correct: float = 0.99,
    temperature: float = 20.0,
    variant: str = "code",
) -> torch.Tensor:
    """KL(virtual teacher || student), summed over classes and averaged over the batch, in nats; see `TfKD`.

    Args:
        logits: (b, n_classes), the student's.
        labels: int64 (b,).
    """
    import torch

    n_classes = logits.shape[1]
    teacher = torch.full_like(logits, (1 - correct) / (n_classes - 1))
    teacher.scatter_(1, labels[:, None], correct)
    if variant == "paper":
        return soft_kl(logits, teacher.log(), temperature=temperature)
    return soft_kl(logits, teacher / temperature)


class ShuffledTeacher(Hinton):
    """Hinton's loss with the teacher's wrong classes permuted, anew for every image and step (DKPP of Furlanello
    et al., "Born-again neural networks", ICML 2018, section 4.3).

    The target keeps the teacher's first choice, its confidence and its entropy; which other classes it finds
    similar is lost. What is left of a gain isn't due to similarities between classes. Parameters as `hinton`.
    """

    minimum_at_teacher = ()

    def distil(self, step: Step) -> Terms:
        """{"kl": T² * KL to the permuted outputs}."""
        t = self.temperature
        return {"kl": t**2 * soft_kl(step.logits, permuted_wrong(step.teacher_logits), temperature=t)}


def permuted_wrong(logits: torch.Tensor) -> torch.Tensor:
    """(b, n_classes) logits, those below each row's largest in a random order; drawn from PyTorch's generator on
    the CPU."""
    import torch

    top = logits.argmax(1, keepdim=True)
    drawn = moved(torch.rand(logits.shape), logits.device).scatter(1, top, -1.0).argsort(1)
    places = torch.arange(logits.shape[1], device=logits.device).expand_as(logits)
    in_order = places.scatter(1, top, -1).argsort(1)  # the largest, then the others as they stand
    return torch.empty_like(logits).scatter_(1, drawn, logits.gather(1, in_order))


class TeacherCopy:
    """The student becomes its teacher, a network of its own architecture that learned from the labels.

    Nothing is trained. The upper bound of fidelity: whatever compares a student with its teacher must find them
    equal here.
    """

    t2_scaling = True  # there is no temperature to make up for

    def modules(self, setup: SchemeSetup) -> None:
        """Copies the teacher's weights and statistics into the student."""
        if setup.teacher is None:
            raise ValueError("the scheme needs a teacher to copy")
        setup.student.load_state_dict(setup.teacher.state_dict())

    def epoch(self, run: SchemeRun) -> Losses:
        """Yields nothing."""
        yield from ()


def _labelled_steps(run: SchemeRun, passes: int) -> Iterator[Step]:
    for _ in range(passes):
        for batch in run.labelled():
            yield Step(run, batch)
