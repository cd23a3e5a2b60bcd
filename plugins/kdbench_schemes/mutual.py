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
    """Networks of one architecture trained together on the labels and on each other's outputs (eqs. (4)-(7)).

    Every network minimises ce_weight * CE + weight * mean KL(other || itself). All are updated simultaneously, with
    the outputs before the step; in the paper they are updated in turn. The first network is evaluated. No teacher
    is needed.

    Parameters
    ----------
    peers
        Number of networks in addition to the student, >= 1.
    temperature
        Temperature T of both softmax outputs, > 0. The term is multiplied by T². The paper: 1.
    ce_weight
        Weight of the cross-entropy on the labelled images, >= 0.
    weight
        Weight of the mutual term of each network, >= 0.
    pool
        Learn from each other on the unlabelled images too; False: on the labelled images only, as published.
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
        """The peers, each with its initial weights."""
        from torch import nn

        return nn.ModuleList(setup.new_student(which) for which in range(self.peers))

    def terms(self, step: Step) -> Terms:
        """{"cross_entropy", "kl"} of the student, {"peer_cross_entropy", "peer_kl"} summed over its peers."""
        import torch

        peers = [peer(step.images).float() for peer in step.run.modules]  # type: ignore[union-attr]
        logits, n = [step.logits, *peers], step.n_labelled
        terms: dict[str, torch.Tensor] = {}
        if self.ce_weight:
            losses = torch.stack([cross_entropy(one[:n], step.labels) for one in logits])
            terms |= _student_and_peers("cross_entropy", self.ce_weight * losses)
        if self.weight:
            losses = torch.stack([self._mutual_kl(one, logits) for one in logits])
            terms |= _student_and_peers("kl", self.weight * losses)
        return terms

    def _mutual_kl(self, one: torch.Tensor, logits: list[torch.Tensor]) -> torch.Tensor:
        """T² * the mean of KL(other || one)."""
        import torch

        t = self.temperature
        return t**2 * torch.stack([soft_kl(one, o, temperature=t) for o in logits if o is not one]).mean()


def _student_and_peers(name: str, losses: torch.Tensor) -> dict[str, torch.Tensor]:
    return {name: losses[0], f"peer_{name}": losses[1:].sum()}
