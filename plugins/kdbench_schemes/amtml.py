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
    """Several teachers, each weighted anew for every image; relations between images; hints in groups of layers.

    A teacher's weight for an image is a softmax over teachers of v . (theta_m * beta), where beta is the maximum
    over places of each channel of the student's last maps, and v and the teachers' theta_m are learned with the
    student in a first stage and kept from then on. The weighted teachers' softened outputs are the target of KL at
    `temperature`, and of RKD's distances and angles; activations, as unit vectors over channels, are hints.

    Departures: hints come from one teacher, whose activations the engine has, at several pairs of layers, where
    the paper takes each group's from another teacher; relations compare softened outputs on both sides, so that
    equal outputs are the minimum (the authors' code compares logits with probabilities); KL is averaged over
    images, not over classes too; the weights depend on the student's activations without a gradient into them.

    Args:
        teachers: >= 2.
        pairs: of the hints; "auto": the ends of the stages, counted from the output; or a table of student tap =
            teacher tap.
        temperature: > 0; the authors' code: 10.
        adapter_share: of the training in which v and theta are learned, in [0, 1]; the code: 80 of 280 epochs.
        penalty: on the squares of v and theta in that stage, >= 0; the code: 0.1.
        soft_weight: of KL, times T², >= 0; the code: 0.7.
        distance_weight, angle_weight: of the relations, >= 0.
        hint_weight: of the sum of the hints, >= 0.
        weight: of all of these together, >= 0.
        ce_weight: of the cross-entropy on the labelled images, >= 0; the code: 0.3.
        pool: distil the unlabelled images too; False: the labelled ones alone.
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
            return "the student's single place can't predict the teacher's map"
        return ""

    def modules(self, setup: SchemeSetup) -> Adaptive:
        """The teachers' representations and the hints' regressors, trained with the student.

        Raises:
            ValueError: a tap that does not exist, or shapes that do not fit.
        """
        from kdbench_schemes._amtml_module import Adaptive

        there = shapes(setup, "student")
        maps = [tap for tap, shape in there.items() if is_map(shape)]
        looked_at = maps[-1] if maps else PENULTIMATE
        return Adaptive(self.find_pairs(setup), self.teachers, looked_at, there[looked_at][0])

    def distil(self, step: Step) -> Terms:
        """{"kl", "distance", "angle", "hint": ...} and, in the first stage, "penalty"."""
        import torch

        adaptive, t = cast("Adaptive", paired(step.run)), self.temperature
        learning = step.run.progress < self.adapter_share
        with torch.set_grad_enabled(learning):
            log_weights = adaptive.log_weights(at(step.outputs, adaptive.looked_at))
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
    """The logarithm of the teachers' softened outputs, averaged with weights of each image's own.

    Args:
        teachers_logits: (teachers, b, n_classes); no gradient flows into them.
        log_weights: (b, teachers), whose exponentials sum to 1; a gradient does.

    Returns:
        (b, n_classes), log-probabilities.
    """
    soft = (teachers_logits.detach() / temperature).log_softmax(2)
    return (log_weights.T[:, :, None] + soft).logsumexp(0)


@exact
def kl_to(target: torch.Tensor, logits: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """KL(target || student) at `temperature`, averaged over images, in nats; its gradient reaches both.

    Args:
        target: (b, n_classes), log-probabilities.
        logits: (b, n_classes), the student's.

    Returns:
        A scalar >= 0, 0 where the student's softened outputs are the target.
    """
    from torch.nn import functional as F

    return F.kl_div((logits / temperature).log_softmax(1), target, reduction="batchmean", log_target=True)
