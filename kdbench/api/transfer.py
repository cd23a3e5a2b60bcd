"""Transfer of small tensors to the training device."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def moved(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """`tensor` on `device`, without waiting for it.

    A plain `.to` from the host waits until the GPU has the bytes, in every step of a training; from pinned memory
    the copy takes its place in the queue, and PyTorch keeps that memory until it is done. On a CPU it is `.to`.
    """
    import torch

    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.contiguous().pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
