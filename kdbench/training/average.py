"""The exponential moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class MovingAverage:
    """average <- decay * average + (1 - decay) * weight after each step, from the initial weights on.

    Buffers (the running statistics of batch normalisation) are copied: they are averages already.

    Args:
        decay: 0 <= decay < 1.

    Raises:
        ValueError: decay is not within that.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"ema_decay={decay!r}: at least 0 and below 1")
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self._pairs = list(zip(self.model.parameters(), model.parameters(), strict=True))
        self._buffers = list(zip(self.model.buffers(), model.buffers(), strict=True))

    @torch.no_grad()
    def update(self) -> None:
        torch._foreach_lerp_([a for a, _ in self._pairs], [p for _, p in self._pairs], 1 - self.decay)
        if self._buffers:
            torch._foreach_copy_([a for a, _ in self._buffers], [b for _, b in self._buffers])
