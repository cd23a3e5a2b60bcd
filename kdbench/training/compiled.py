"""A network trained through torch.compile."""

from __future__ import annotations

import torch
from torch import nn


class Compiled(nn.Module):
    """`network` compiled for its training batches; it is the same module, with the same weights.

    One program is compiled for each size of a full batch and kept by PyTorch's caches; smaller batches (the last of
    a pass) and evaluation go the plain way, which costs less than another compilation. On a GPU the program is
    replayed as CUDA graphs.

    Parameters
    ----------
    network
        The network.
    full
        The smallest size of a batch that is worth a program.
    device
        Its device.
    """

    def __init__(self, network: nn.Module, full: int, device: str) -> None:
        super().__init__()
        self.network = network
        self.full = full
        self._graphs = device.startswith("cuda")
        mode = "reduce-overhead" if self._graphs else "default"
        self._program = torch.compile(network, mode=mode, dynamic=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not self.network.training or len(images) < self.full:
            return self.network(images)
        out = self._program(images)
        # what a graph returns is overwritten by its next replay; a scheme may still want it then
        return out.clone() if self._graphs else out
