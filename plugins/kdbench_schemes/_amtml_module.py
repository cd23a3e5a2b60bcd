"""The modules of `amtml`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdbench_schemes._adapters import Adapters, as_map
from kdbench_schemes._pairs import Pair


class Adaptive(Adapters):
    """The representations of the teachers and the regressors of the hints.

    Parameters
    ----------
    pairs
        Pairs of layers of the hints.
    teachers
        Number of teachers.
    tap
        The student's tap that determines the weights.
    channels
        Channels of that tap.
    """

    def __init__(self, pairs: Sequence[Pair], teachers: int, tap: str, channels: int) -> None:
        super().__init__(pairs, bias=False)
        self.tap = tap
        self.theta = nn.Parameter(torch.randn(teachers, channels))
        self.v = nn.Parameter(torch.randn(channels))

    def log_weights(self, activations: Tensor) -> Tensor:
        """Log-weights float32 (b, teachers), normalised over teachers, from activations (b, c, h, w) or (b, c).

        No gradient flows into the activations.
        """
        with torch.autocast(activations.device.type, enabled=False):
            beta = as_map(activations.detach()).flatten(2).amax(2).float()
            return (beta @ (self.theta * self.v).T).log_softmax(1)

    def hint(self, k: int, student: Tensor) -> Tensor:
        """Predict the teacher's activations at pair `k` from the student's, normalised over channels."""
        return self(k, self.unit(student))

    @staticmethod
    def unit(activations: Tensor) -> Tensor:
        """Activations (b, c, ...) normalised over channels."""
        with torch.autocast(activations.device.type, enabled=False):
            return F.normalize(activations.float())

    def squares(self) -> Tensor:
        return self.theta.square().sum() + self.v.square().sum()
