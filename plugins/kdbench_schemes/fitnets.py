"""Romero et al., "FitNets: hints for thin deep nets" (ICLR 2015, arXiv 1412.6550)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, cast

from kdbench.api import check_choice, check_number
from kdbench_schemes._common import Step, exact, soft_kl, steps
from kdbench_schemes._features import FeatureScheme, activations, paired
from kdbench_schemes._pairs import Pair, Pairs, is_map, middle_stage

if TYPE_CHECKING:
    import torch

    from kdbench.api import SchemeRun, SchemeSetup
    from kdbench_schemes._adapters import Adapters
    from kdbench_schemes._common import Losses, Terms

Variant = Literal["paper", "code"]
VARIANTS = ("paper", "code")


class FitNets(FeatureScheme):
    """Hints: a regressor on the student's middle layer predicts the teacher's.

    In the variant "paper", a first stage trains the student up to that layer, and the regressor, on the hint only
    (eq. (3)); a second stage trains the full student on its labels and the teacher's soft targets, whose weight
    decreases linearly (section 2.2). Most codebases train one stage with both losses, and with batch normalisation
    and ReLU in the regressor: the variant "code" (of CRD).

    Deviations in both variants: the regressor is a 1x1 convolution (for vectors, a linear map) and a resizing, so
    that any two architectures fit. The hint is a mean over elements instead of the sum of eq. (3), to whose scale SGD
    is sensitive, unlike the paper's RMSProp. Both stages share one optimiser and schedule, so that the number of
    steps equals that of other schemes. In the first stage the layers after the hint keep their weights, but their
    batch normalisation statistics are updated.

    Parameters
    ----------
    variant
        "paper": two stages; "code": cross-entropy and hint together.
    pairs
        "auto": the middle one of the stages; or a table of student tap = teacher tap.
    hint_share
        Fraction of the training for the first stage, strictly between 0 and 1; "paper" only. The paper stops
        by validation error; code often uses 30 epochs before 240.
    temperature
        Temperature of the soft targets, > 0; "paper" only; published: 3.
    weight
        Weight of the soft targets at the start of the second stage ("paper"; published: 4), or of the hint
        ("code"; published: 100). None: the published value.
    final_weight
        Weight of the soft targets at the end of the training, >= 0; "paper" only; published: 1.
    ce_weight
        Weight of the cross-entropy on the labelled images, >= 0.
    pool
        Distil the unlabelled images too; False: the labelled images only.
    """

    def __init__(
        self,
        *,
        variant: Variant = "paper",
        pairs: Pairs = "auto",
        hint_share: float = 0.125,
        temperature: float = 3.0,
        weight: float | None = None,
        final_weight: float = 1.0,
        ce_weight: float = 1.0,
        pool: bool = True,
    ) -> None:
        check_choice("variant", variant, VARIANTS)
        if weight is None:
            weight = 4.0 if variant == "paper" else 100.0
        super().__init__(pairs=pairs, ce_weight=ce_weight, weight=weight, pool=pool)
        self.variant: Variant = variant
        self.hint_share = check_number("hint_share", hint_share, at_least=0, at_most=1)
        if hint_share in (0, 1):
            raise ValueError(
                f"hint_share={hint_share!r}: above 0 and below 1; variant = 'code' has one stage"
            )
        self.temperature = check_number("temperature", temperature, above=0)
        self.final_weight = check_number("final_weight", final_weight, at_least=0)

    def auto(self, setup: SchemeSetup) -> Sequence[tuple[str, str]]:
        return middle_stage(setup)

    def refuse(self, pair: Pair) -> str:
        if is_map(pair.teacher_shape) and not is_map(pair.student_shape):
            return "the student's 1x1 activations can't predict the teacher's map"
        return ""

    def modules(self, setup: SchemeSetup) -> Adapters:
        """The regressors, trained with the student.

        Parameters
        ----------
        setup
            The networks, their taps and the numbers of images.

        Returns
        -------
        Adapters
            One regressor per pair.

        Raises
        ------
        ValueError
            A tap does not exist, or shapes do not fit.
        """
        from kdbench_schemes._adapters import Adapters

        return Adapters(self.find_pairs(setup), activated=self.variant == "code")

    def epoch(self, run: SchemeRun) -> Losses:
        """Yield the loss terms of every step.

        {"hint": ...} in the first stage and {"cross_entropy": ..., "kl": ...} in the second; in the variant "code"
        {"cross_entropy": ..., "hint": ...}.

        Parameters
        ----------
        run
            The training.

        Yields
        ------
        Losses
            The terms of one step.

        Raises
        ------
        ValueError
            The training is too short for both stages.
        """
        if self.variant == "code":
            yield from super().epoch(run)
            return
        for k, step in enumerate(steps(run, pool=self.pool)):
            if k == 1:
                self._refuse_if_short(run)
            if run.progress < self.hint_share:
                yield {"hint": self.hint(step)}
            else:
                yield self.terms(step)

    def _refuse_if_short(self, run: SchemeRun) -> None:
        """Check after the first step, which shows whether progress is counted in steps or in epochs."""
        last = (run.epochs - 1) / run.epochs
        if run.progress == run.epoch / run.epochs and last < self.hint_share:
            raise ValueError(
                f"hint_share={self.hint_share!r}: a training of {run.epochs} epoch(s) leaves none for the second "
                f"stage; at most {last:g}, or more epochs, or a fixed number of steps"
            )

    def distil(self, step: Step) -> Terms:
        """{"hint": ...} in the variant "code"; else {"kl": KL to the teacher at `temperature`}."""
        if self.variant == "code":
            return {"hint": 2 * self.hint(step)}
        return {"kl": soft_kl(step.logits, step.teacher_logits, temperature=self.temperature)}

    def weight_at(self, run: SchemeRun) -> float:
        """The weight; it decreases linearly over the second stage of the variant "paper"."""
        if self.variant == "code":
            return self.weight
        done = (run.progress - self.hint_share) / (1 - self.hint_share)
        return self.weight + (self.final_weight - self.weight) * done

    def hint(self, step: Step) -> torch.Tensor:
        """Half the mean squared error of the regressors, summed over pairs."""
        import torch

        adapters = cast("Adapters", paired(step.run))
        layers = enumerate(activations(step, adapters.pairs))
        return torch.stack([hint_loss(adapters(k, s), t) for k, (s, t) in layers]).sum()


@exact
def hint_loss(predicted: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Half the mean squared error (eq. (3), as a mean). No gradient flows into the teacher.

    Parameters
    ----------
    predicted
        Output (b, c, h, w) of the regressor.
    teacher
        (b, c, h, w), or (b, c) for 1x1 maps.

    Returns
    -------
    Tensor
        A scalar >= 0, 0 if they are equal.
    """
    from kdbench_schemes._adapters import as_map

    return (predicted - as_map(teacher.detach())).square().mean() / 2
