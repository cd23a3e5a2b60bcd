"""Zhang, Xiang, Hospedales & Lu, "Deep mutual learning" (CVPR 2018; arXiv 1706.00384)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.api import check_integer, check_number
from kdbench_schemes._common import DistillationScheme, Step, cross_entropy, soft_kl

if TYPE_CHECKING:
    import torch
    from torch import nn

    from kdbench.api import SchemeSetup
    from kdbench_schemes._common import Terms


class Mutual(DistillationScheme):
    """Networks of one architecture that learn together, each from the labels and from the others (eqs. (4)-(7)).

    Every network minimises ce_weight * CE + weight * mean KL(another || itself). All take their step at once, on
    the outputs that they had before it; the paper lets them take turns within a batch. What is evaluated is the
    first; no teacher is needed.

    Args:
        peers: networks beside the student, at least 1.
        temperature: T > 0; the paper: 1. The term is multiplied by T².
        ce_weight: of the cross-entropy on the labelled images, >= 0.
        weight: of the term that each network takes from the others, >= 0.
        pool: learn from each other on the unlabelled images too; False: on the labelled ones alone, as published.
    """

    def __init__(
        self,
        *,
        peers: int = 1,
        temperature: float = 1.0,
        ce_weight: float = 1.0,
        weight: float = 1.0,
        pool: bool = True,
    ) -> None:
        super().__init__(ce_weight=ce_weight, weight=weight, pool=pool)
        self.peers = check_integer("peers", peers, at_least=1)
        self.temperature = check_number("temperature", temperature, above=0)

    def modules(self, setup: SchemeSetup) -> nn.Module:
        """The peers, with initial weights of their own."""
        from torch import nn

        return nn.ModuleList(setup.new_student(which) for which in range(self.peers))

    def terms(self, step: Step) -> Terms:
        """{"cross_entropy", "kl"} of the student, {"peer_cross_entropy", "peer_kl"} summed over its peers."""
        import torch

        others = [peer(step.images).float() for peer in step.run.modules]  # type: ignore[union-attr]
        everyone, n = [step.logits, *others], step.n_labelled
        found: dict[str, torch.Tensor] = {}
        if self.ce_weight:
            each = torch.stack([cross_entropy(logits[:n], step.labels) for logits in everyone])
            found |= _own_and_peers("cross_entropy", self.ce_weight * each)
        if self.weight:
            each = torch.stack([self._from_others(one, everyone) for one in everyone])
            found |= _own_and_peers("kl", self.weight * each)
        return found

    def _from_others(self, one: torch.Tensor, everyone: list[torch.Tensor]) -> torch.Tensor:
        """T² * the mean KL(another || one)."""
        import torch

        t = self.temperature
        return t**2 * torch.stack([soft_kl(one, o, temperature=t) for o in everyone if o is not one]).mean()


def _own_and_peers(name: str, each: torch.Tensor) -> dict[str, torch.Tensor]:
    return {name: each[0], f"peer_{name}": each[1:].sum()}
