"""The encoder of ivis in PyTorch: SELU layers with alpha dropout after the first two, then a linear map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

DROPOUT = 0.1
#: So many of the first hidden layers are followed by dropout.
DROP_LAYERS = 2

SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772
# Alpha dropout (Klambauer et al. 2017, section 2 "New dropout technique"): a dropped unit is set to SELU's
# lower limit, then an affine map restores mean 0 and variance 1.
LOWER = -SELU_SCALE * SELU_ALPHA
GAIN = ((1 - DROPOUT) * (1 + DROPOUT * LOWER**2)) ** -0.5
SHIFT = -GAIN * DROPOUT * LOWER
# A normal cut at two standard deviations has this standard deviation; Keras divides by it.
_CUT_STD = 0.87962566103423978


class Encoder(nn.Module):
    """A layer's activations, (b, n_features), to points, (b, embedding_dims).

    Weights are drawn as Keras draws them: lecun_normal (cut at two standard deviations) in the hidden layers,
    glorot_uniform in the last, zero biases; from `generator` alone.

    Parameters
    ----------
    n_features
        Input and output dimensions.
    embedding_dims
        Input and output dimensions.
    widths
        Of the hidden layers, as in `WIDTHS`.
    generator
        a CPU generator; None leaves the weights at zero, for loading.
    in_bfloat16
        Multiply the hidden layers in bfloat16; the last one, to the points, stays in float32.
    """

    def __init__(
        self,
        n_features: int,
        embedding_dims: int,
        widths: Sequence[int],
        *,
        generator: torch.Generator | None,
        in_bfloat16: bool = False,
    ) -> None:
        super().__init__()
        sizes = [n_features, *widths, embedding_dims]
        self.in_bfloat16 = in_bfloat16
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            weight = torch.zeros(fan_out, fan_in)
            if generator is not None and len(self.weights) < len(widths):
                std = math.sqrt(1 / fan_in) / _CUT_STD
                nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)
            elif generator is not None:
                nn.init.xavier_uniform_(weight, generator=generator)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(torch.zeros(fan_out)))

    def forward(self, x: torch.Tensor, dropped: Sequence[torch.Tensor] = ()) -> torch.Tensor:
        """Points of `x`; `dropped`: bool (b, units) of the first hidden layers, the units that are dropped."""
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if self.in_bfloat16 and i < last:
                x = (x.bfloat16() @ weight.bfloat16().T).float() + bias
            else:
                x = F.linear(x, weight, bias)
            if i == last:
                break
            x = F.selu(x)
            if i < len(dropped):
                x = torch.where(dropped[i], LOWER, x) * GAIN + SHIFT
        return x
