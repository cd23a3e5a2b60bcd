"""The modules of `amtml`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdbench_schemes._adapters import Adapters, as_map
from kdbench_schemes._pairs import Pair


class Adaptive(Adapters):
    """The representations of teachers, and regressors of hints.

    Args:
        looked_at: the student's tap that weights depend on.
        channels: of that tap.
    """

    def __init__(self, pairs: Sequence[Pair], teachers: int, looked_at: str, channels: int) -> None:
        super().__init__(pairs, bias=False)
        self.looked_at = looked_at
        self.theta = nn.Parameter(torch.randn(teachers, channels))
        self.v = nn.Parameter(torch.randn(channels))

    def log_weights(self, activations: Tensor) -> Tensor:
        """float32 (b, teachers), whose exponentials sum to 1; no gradient reaches the activations (b, c, h, w) or
        (b, c)."""
        with torch.autocast(activations.device.type, enabled=False):
            beta = as_map(activations.detach()).flatten(2).amax(2).float()
            return (beta @ (self.theta * self.v).T).log_softmax(1)

    def hint(self, k: int, student: Tensor) -> Tensor:
        """What the student's activations at pair `k`, as unit vectors over channels, predict of the teacher's."""
        return self(k, self.unit(student))

    @staticmethod
    def unit(activations: Tensor) -> Tensor:
        """(b, c, ...) with channels of unit length."""
        with torch.autocast(activations.device.type, enabled=False):
            return F.normalize(activations.float())

    def squares(self) -> Tensor:
        return self.theta.square().sum() + self.v.square().sum()
