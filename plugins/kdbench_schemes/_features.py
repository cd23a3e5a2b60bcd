"""What the schemes that distil activations have in common."""

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
    """A scheme whose term is a sum over pairs of layers.

    The pairs are settled in `modules`, where the shapes are known, and kept in the module that it returns.

    Args:
        pairs: "auto", or a table of student tap = teacher tap; "penultimate" is a tap of every network.
        ce_weight, weight, pool: see `DistillationScheme`.
    """

    def __init__(self, *, pairs: Pairs, ce_weight: float, weight: float, pool: bool) -> None:
        super().__init__(ce_weight=ce_weight, weight=weight, pool=pool)
        self.pairs = checked(pairs)

    def auto(self, setup: SchemeSetup) -> Sequence[tuple[str, str]]:
        """What pairs="auto" means here."""
        raise NotImplementedError

    def refuse(self, pair: Pair) -> str:
        """Why this scheme can't use a pair, "" where it can."""
        return ""

    def find_pairs(self, setup: SchemeSetup) -> tuple[Pair, ...]:
        """See `kdbench_schemes._pairs.find_pairs`."""
        return find_pairs(self.pairs, setup, self.auto, refuse=self.refuse)

    def modules(self, setup: SchemeSetup) -> Paired:
        """The pairs, in a module without weights.

        Raises:
            ValueError: a tap that does not exist, or shapes that do not fit.
        """
        from kdbench_schemes._adapters import Paired

        return Paired(self.find_pairs(setup))


def paired(run: SchemeRun) -> Paired:
    """The module that a feature scheme's `modules` made."""
    return cast("Paired", run.modules)


def activations(step: Step, pairs: Sequence[Pair]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The student's and the teacher's activations (b, ...) at each pair; no gradient in the teacher's."""
    for pair in pairs:
        yield at(step.outputs, pair.student), of_teacher(step, pair.teacher)


def of_teacher(step: Step, tap: str) -> torch.Tensor:
    """The teacher's activations at one tap, (b, ...), at least float32; no gradient."""
    import torch

    found = torch.cat([at(outputs, tap) for outputs in step.teacher]).detach()
    return found.float() if found.element_size() < 4 else found


def at(outputs: Outputs, tap: str) -> torch.Tensor:
    """Activations at a tap, or what goes into the last linear layer where no tap has that name."""
    return outputs.features.get(tap, outputs.penultimate)


def summed(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], step: Step, pairs: Sequence[Pair]
) -> torch.Tensor:
    """The sum of a loss over pairs."""
    import torch

    return torch.stack([loss(s, t) for s, t in activations(step, pairs)]).sum()
