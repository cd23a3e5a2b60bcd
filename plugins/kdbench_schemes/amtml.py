"""Liu, Zhang & Wang, "Adaptive multi-teacher multi-level knowledge distillation" (Neurocomputing 415, 2020,
arXiv 2103.04062)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from kdbench.api import check_integer, check_number
from kdbench_schemes._common import exact
from kdbench_schemes._features import FeatureScheme, activations, at, paired
from kdbench_schemes._pairs import PENULTIMATE, Pair, Pairs, is_map, shapes, stages
from kdbench_schemes.fitnets import hint_loss
from kdbench_schemes.rkd import angle_loss, distance_loss

if TYPE_CHECKING:
    import torch

    from kdbench.api import SchemeSetup
    from kdbench_schemes._amtml_module import Adaptive
    from kdbench_schemes._common import Step, Terms


class AMTML(FeatureScheme):
    """Several teachers with weights for each image, relations between images, and hints at several layers.

    The weight of teacher m for an image is a softmax over teachers of v . (theta_m * beta), where beta is the
    spatial maximum of each channel of the student's last maps; v and theta_m are learned with the student in a first
    stage and fixed afterwards. The weighted average of the teachers' soft targets is the target of KL at
    `temperature`, and of RKD's distances and angles. Activations, normalised over channels, are hints.

    Deviations: hints come from the first teacher, the only one whose activations are available, at several pairs of
    layers; in the paper each group of layers has another teacher. Relations compare soft targets on both sides, so
    that equal outputs are the minimum (the authors' code compares logits with probabilities). KL is averaged over
    images, not over classes. No gradient flows from the weights into the student's activations.

    Parameters
    ----------
    teachers
        Number of teachers, >= 2.
    pairs
        Layers of the hints. "auto": the last tap of each stage, paired from the output; or a table of student
        tap = teacher tap.
    temperature
        Temperature T of both softmax outputs, > 0. The authors' code: 10.
    adapter_share
        Fraction of the training in which v and theta are learned, 0..1; the authors' code: 80 of 280 epochs.
    penalty
        Weight of the squared norms of v and theta in the first stage, >= 0; the authors' code: 0.1.
    soft_weight
        Weight of T² * KL, >= 0; the authors' code: 0.7.
    distance_weight
        Weight of RKD's distances, >= 0.
    angle_weight
        Weight of RKD's angles, >= 0.
    hint_weight
        Weight of the sum of the hints, >= 0.
    weight
        Weight of all distillation terms, >= 0.
    ce_weight
        Weight of the cross-entropy on the labelled images, >= 0. The authors' code: 0.3.
    pool
        Distil the unlabelled images too; False: the labelled images only.

    Attributes
    ----------
    t2_scaling
        Whether the loss is scaled with T², or has no temperature.
    """

    t2_scaling = True

    def __init__(
        self,
        *,
        teachers: int = 3,
        pairs: Pairs = "auto",
        temperature: float = 10.0,
        adapter_share: float = 2 / 7,
        penalty: float = 0.1,
        soft_weight: float = 0.7,
        distance_weight: float = 1.0,
        angle_weight: float = 1.0,
        hint_weight: float = 1.0,
        weight: float = 1.0,
        ce_weight: float = 0.3,
        pool: bool = True,
    ) -> None:
        super().__init__(pairs=pairs, ce_weight=ce_weight, weight=weight, pool=pool)
        self.teachers = check_integer("teachers", teachers, at_least=2)
        self.temperature = check_number("temperature", temperature, above=0)
        self.adapter_share = check_number("adapter_share", adapter_share, at_least=0, at_most=1)
        self.penalty = check_number("penalty", penalty, at_least=0)
        self.soft_weight = check_number("soft_weight", soft_weight, at_least=0)
        self.distance_weight = check_number("distance_weight", distance_weight, at_least=0)
        self.angle_weight = check_number("angle_weight", angle_weight, at_least=0)
        self.hint_weight = check_number("hint_weight", hint_weight, at_least=0)

    def auto(self, setup: SchemeSetup) -> Sequence[tuple[str, str]]:
        return stages(setup)

    def refuse(self, pair: Pair) -> str:
        if is_map(pair.teacher_shape) and not is_map(pair.student_shape):
            return "the student's 1x1 activations can't predict the teacher's map"
        return ""

    def modules(self, setup: SchemeSetup) -> Adaptive:
        """The representations of the teachers and the regressors of the hints, trained with the student.

        Parameters
        ----------
        setup
            The networks, their taps and the numbers of images.

        Returns
        -------
        Adaptive
            The module.

        Raises
        ------
        ValueError
            A tap does not exist, or shapes do not fit.
        """
        from kdbench_schemes._amtml_module import Adaptive

        taps = shapes(setup, "student")
        maps = [tap for tap, shape in taps.items() if is_map(shape)]
        tap = maps[-1] if maps else PENULTIMATE
        return Adaptive(self.find_pairs(setup), self.teachers, tap, taps[tap][0])

    def distil(self, step: Step) -> Terms:
        """{"kl", "distance", "angle", "hint": ...} and, in the first stage, "penalty"."""
        import torch

        adaptive, t = cast("Adaptive", paired(step.run)), self.temperature
        learning = step.run.progress < self.adapter_share
        with torch.set_grad_enabled(learning):
            log_weights = adaptive.log_weights(at(step.outputs, adaptive.tap))
            target = integrated_target(step.teachers_logits, log_weights, temperature=t)
        soft = (step.logits / t).softmax(1)
        hints = [
            2 * hint_loss(adaptive.hint(k, s), adaptive.unit(teacher))
            for k, (s, teacher) in enumerate(activations(step, adaptive.pairs))
        ]
        terms = {
            "kl": self.soft_weight * t**2 * kl_to(target, step.logits, temperature=t),
            "distance": self.distance_weight * distance_loss(soft, target.exp()),
            "angle": self.angle_weight * angle_loss(soft, target.exp()),
            "hint": self.hint_weight * torch.stack(hints).sum(),
        }
        return terms | ({"penalty": self.penalty * adaptive.squares()} if learning else {})


@exact
def integrated_target(
    teachers_logits: torch.Tensor, log_weights: torch.Tensor, *, temperature: float
) -> torch.Tensor:
    """Logarithm of the weighted average of the teachers' soft targets.

    Parameters
    ----------
    teachers_logits
        (teachers, b, n_classes); no gradient flows into them.
    log_weights
        (b, teachers), whose exponentials sum to 1; with gradient.
    temperature
        Temperature of the soft targets, > 0.

    Returns
    -------
    Tensor
        Log-probabilities (b, n_classes).
    """
    soft = (teachers_logits.detach() / temperature).log_softmax(2)
    return (log_weights.T[:, :, None] + soft).logsumexp(0)


@exact
def kl_to(target: torch.Tensor, logits: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """KL(target || student), averaged over images, in nats, with a gradient to both.

    Parameters
    ----------
    target
        Log-probabilities (b, n_classes).
    logits
        The student's logits (b, n_classes).
    temperature
        Temperature of the student's softmax output, > 0.

    Returns
    -------
    Tensor
        A scalar >= 0, 0 if the student's softmax output equals the target.
    """
    from torch.nn import functional as F

    return F.kl_div((logits / temperature).log_softmax(1), target, reduction="batchmean", log_target=True)
