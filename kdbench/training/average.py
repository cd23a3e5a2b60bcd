"""Exponential moving average of a network's weights."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """Start the exponential moving average of a network at its present weights.

    After each `update_parameters(model)`: average <- decay * average + (1 - decay) * weight. Buffers (the running
    statistics of batch normalisation) are copied, because they are averages already.

    Parameters
    ----------
    model
        Network whose weights are averaged.
    decay
        Decay a step, at least 0 and below 1.

    Returns
    -------
    AveragedModel
        The average; its network is `module`, in evaluation mode and without gradients.

    Raises
    ------
    ValueError
        `decay` is out of range.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"ema_decay={decay!r}: at least 0 and below 1")
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay)).requires_grad_(False).eval()
    average.update_parameters(model)  # the first update copies the weights
    return average
