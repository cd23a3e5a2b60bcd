"""Controls for distillation schemes: smoothed labels, uninformative teachers, and a copy of the teacher."""

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
    """Cross-entropy against (1 - epsilon) * label + epsilon / n_classes on the labelled images.

    Szegedy et al., "Rethinking the Inception architecture" (CVPR 2016), section 7; Müller et al. 2019. A soft target
    without a teacher: a control for the effect of soft targets alone.

    Parameters
    ----------
    epsilon
        Smoothing, 0..1; 0 is plain cross-entropy.
    passes
        Passes over the labelled images per epoch, >= 1.
    """

    def __init__(self, *, epsilon: float = 0.1, passes: int = 1) -> None:
        self.epsilon = check_number("epsilon", epsilon, at_least=0, at_most=1)
        self.passes = check_integer("passes", passes, at_least=1)

    def epoch(self, run: SchemeRun) -> Losses:
        """Yield {"cross_entropy": loss} for every labelled batch."""
        for step in _labelled_steps(run, self.passes):
            yield {"cross_entropy": cross_entropy(step.logits, step.labels, label_smoothing=self.epsilon)}


class TfKD:
    """ce_weight * CE + weight * KL to a hand-designed teacher, on the labelled images (Tf-KD_reg).

    Yuan, Tay, Li, Wang & Feng, "Revisiting knowledge distillation via label smoothing regularization" (CVPR 2020),
    section 5. The virtual teacher gives the label the probability `correct` and is uniform over the other classes.
    In the paper, teacher and student have temperature T. The code uses the softmax of the virtual teacher's
    probabilities over T, which is nearly uniform, with the student at T = 1; its mean over 100 classes times 100 is
    the sum over classes used here.

    Parameters
    ----------
    variant
        "code" or "paper", see above.
    correct
        Probability of the labelled class, strictly between 0 and 1.
    temperature
        Temperature T, > 0.
    ce_weight
        Weight of the cross-entropy on the labelled images, >= 0.
    weight
        Weight of the KL term, >= 0.
    passes
        Passes over the labelled images per epoch, >= 1.
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
        """Yield {"cross_entropy": ..., "kl": ...} for every labelled batch; a term of weight 0 is skipped."""
        for step in _labelled_steps(run, self.passes):
            yield self._terms(step)

    def _terms(self, step: Step) -> Terms:
        terms = {}
        if self.ce_weight:
            terms["cross_entropy"] = self.ce_weight * cross_entropy(step.logits, step.labels)
        if self.weight:
            loss = virtual_teacher_kl(
                step.logits,
                step.labels,
                correct=self.correct,
                temperature=self.temperature,
                variant=self.variant,
            )
            terms["kl"] = self.weight * loss
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

    Parameters
    ----------
    logits
        The student's logits (b, n_classes).
    labels
        int64 (b,).
    correct
        Probability of the labelled class.
    temperature
        Temperature T, > 0.
    variant
        "code" or "paper".

    Returns
    -------
    Tensor
        A scalar >= 0.
    """
    import torch

    n_classes = logits.shape[1]
    teacher = torch.full_like(logits, (1 - correct) / (n_classes - 1))
    teacher.scatter_(1, labels[:, None], correct)
    if variant == "paper":
        return soft_kl(logits, teacher.log(), temperature=temperature)
    return soft_kl(logits, teacher / temperature)


class ShuffledTeacher(Hinton):
    """Hinton's loss with the teacher's non-maximal classes permuted at random, for each image and step (DKPP).

    Furlanello et al., "Born-again neural networks" (ICML 2018), section 4.3. The target keeps the teacher's
    prediction, confidence and entropy, but not its similarities between classes; a remaining gain is not due to
    those.
    """

    minimum_at_teacher = ()

    def distil(self, step: Step) -> Terms:
        """{"kl": T² * KL to the permuted outputs}."""
        t = self.temperature
        return {"kl": t**2 * soft_kl(step.logits, permuted_wrong(step.teacher_logits), temperature=t)}


def permuted_wrong(logits: torch.Tensor) -> torch.Tensor:
    """Permute all but the largest logit in each row of (b, n_classes); uses PyTorch's CPU generator."""
    import torch

    top = logits.argmax(1, keepdim=True)
    target = moved(torch.rand(logits.shape), logits.device).scatter(1, top, -1.0).argsort(1)
    classes = torch.arange(logits.shape[1], device=logits.device).expand_as(logits)
    source = classes.scatter(1, top, -1).argsort(1)  # the largest, then the others in order
    return torch.empty_like(logits).scatter_(1, target, logits.gather(1, source))


class TeacherCopy:
    """The student is a copy of its teacher, a supervised network of the same architecture.

    Nothing is trained. The upper bound of fidelity: every comparison of student and teacher must find them equal.
    """

    t2_scaling = True  # the loss has no temperature

    def modules(self, setup: SchemeSetup) -> None:
        """Copy the teacher's weights and statistics into the student."""
        if setup.teacher is None:
            raise ValueError("the scheme needs a teacher to copy")
        setup.student.load_state_dict(setup.teacher.state_dict())

    def epoch(self, run: SchemeRun) -> Losses:
        """Yield nothing."""
        yield from ()


def _labelled_steps(run: SchemeRun, passes: int) -> Iterator[Step]:
    for _ in range(passes):
        for batch in run.labelled():
            yield Step(run, batch)
