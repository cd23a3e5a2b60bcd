"""The modules of `vid`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdbench_schemes._adapters import Paired, as_map, to_common_size
from kdbench_schemes._pairs import Pair


class Regressors(Paired):
    """The mean and variance of the teacher's layer for each pair.

    The mean is regressed by three 1x1 convolutions with ReLU between them, as wide as the teacher's layer. The
    variance of each channel is stored as its inverse softplus.
    """

    def __init__(self, pairs: Sequence[Pair], initial_variance: float, epsilon: float) -> None:
        super().__init__(pairs)
        self.epsilon = epsilon
        self.means = nn.ModuleList(_mean(p.student_shape[0], p.teacher_shape[0]) for p in pairs)
        start = initial_variance - epsilon
        start += math.log(-math.expm1(-start))  # log(e^x - 1), which would overflow for large x
        self.spreads = nn.ParameterList(nn.Parameter(torch.full((p.teacher_shape[0],), start)) for p in pairs)

    def forward(self, k: int, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Predict the Gaussian of the teacher's activations at one pair.

        Parameters
        ----------
        k
            Index of the pair.
        student
            (b, c, h, w) or (b, d), of any size.
        teacher
            (b, c, h, w) or (b, d), of any size.

        Returns
        -------
        tuple[Tensor, Tensor, Tensor]
            The mean (b, c, h, w), the teacher's activations (b, c, h, w) and the variance (c,).
        """
        student, teacher = to_common_size(as_map(student), as_map(teacher))
        return self.means[k](student), teacher, self.variance(k)

    def variance(self, k: int) -> Tensor:
        """Variance of each channel (c,), at least epsilon."""
        return F.softplus(self.spreads[k]) + self.epsilon


def _mean(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 1, bias=False),
    )
