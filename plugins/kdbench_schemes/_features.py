"""Base class and helpers of the schemes that distil activations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

from kdbench_schemes._common import DistillationScheme, Step
from kdbench_schemes._pairs import Pair, Pairs, checked, find_pairs

if TYPE_CHECKING:
    import torch

    from kdbench.api import Outputs, SchemeRun, SchemeSetup
    from kdbench_schemes._adapters import Paired


class FeatureScheme(DistillationScheme):
    """A scheme whose distillation term is a sum over pairs of layers.

    The pairs are determined in `modules`, when the shapes are available, and stored in the module it returns.

    Parameters
    ----------
    pairs
        "auto", or a table of student tap = teacher tap; "penultimate" is a tap of every network.
    ce_weight
        Weight of the cross-entropy on the labelled images, >= 0.
    weight
        Weight of the distillation term, >= 0.
    pool
        Distil the unlabelled images too; False: the labelled images only.
    """

    def __init__(self, *, pairs: Pairs, ce_weight: float, weight: float, pool: bool) -> None:
        super().__init__(ce_weight=ce_weight, weight=weight, pool=pool)
        self.pairs = checked(pairs)

    def auto(self, setup: SchemeSetup) -> Sequence[tuple[str, str]]:
        """The pairs of taps that `pairs="auto"` selects."""
        raise NotImplementedError

    def refuse(self, pair: Pair) -> str:
        """Reason why this scheme can't use `pair`, "" if it can."""
        return ""

    def find_pairs(self, setup: SchemeSetup) -> tuple[Pair, ...]:
        """See `kdbench_schemes._pairs.find_pairs`."""
        return find_pairs(self.pairs, setup, self.auto, refuse=self.refuse)

    def modules(self, setup: SchemeSetup) -> Paired:
        """The pairs, in a module without weights.

        Parameters
        ----------
        setup
            The networks, their taps and the numbers of images.

        Returns
        -------
        Paired
            The pairs as a module.

        Raises
        ------
        ValueError
            A tap does not exist, or shapes do not fit.
        """
        from kdbench_schemes._adapters import Paired

        return Paired(self.find_pairs(setup))


def paired(run: SchemeRun) -> Paired:
    """The module that a feature scheme returned from `modules`."""
    return cast("Paired", run.modules)


def activations(step: Step, pairs: Sequence[Pair]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The student's and the teacher's activations (b, ...) at each pair; no gradient in the teacher's."""
    for pair in pairs:
        yield at(step.outputs, pair.student), of_teacher(step, pair.teacher)


def of_teacher(step: Step, tap: str) -> torch.Tensor:
    """The teacher's activations at one tap, (b, ...), at least float32; no gradient."""
    import torch

    features = torch.cat([at(outputs, tap) for outputs in step.teacher]).detach()
    return features.float() if features.element_size() < 4 else features


def at(outputs: Outputs, tap: str) -> torch.Tensor:
    """Activations at a tap, or the input of the last linear layer if no tap has that name."""
    return outputs.features.get(tap, outputs.penultimate)


def summed(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], step: Step, pairs: Sequence[Pair]
) -> torch.Tensor:
    """The sum of a loss over pairs."""
    import torch

    return torch.stack([loss(s, t) for s, t in activations(step, pairs)]).sum()
