"""One optimiser step of ivis-torch, forward and backward written out.

The layers are so small that a step through autograd spends much of its time beside the products: a graph of
some 60 nodes, temporaries that are allocated anew, dropout that decides on one unit at a time. Here the same
step is some 50 operations, most of them on buffers that are allocated once. What it computes is what autograd
computes of `Encoder.forward` and `TripletLoss`; a test holds the one to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.optim.adam import adam

from kdbench_reducers._ivis_loss import TripletLoss
from kdbench_reducers._ivis_network import (
    DROP_LAYERS,
    DROPOUT,
    GAIN,
    LOWER,
    SELU_ALPHA,
    SELU_SCALE,
    SHIFT,
    Encoder,
)

BETAS = 0.9, 0.999  # of Adam
EPSILON = 1e-7  # of Adam; Keras' own, PyTorch's is 1e-8
SHORTS = 4  # of 16 bits in a number drawn
# A unit is dropped where 16 random bits, as a signed number, lie below this: a share of 0.100006.
DROPPED_BELOW = round(DROPOUT * 2**16) - 2**15
# Rows of _PAIRS @ (anchor, positive, negative) are the differences of the pairs (ap, an, pn).
_PAIRS = ((1.0, -1.0, 0.0), (1.0, 0.0, -1.0), (0.0, 1.0, -1.0))


class Step:
    """Steps of Adam on `encoder`, whose parameters become views of one vector.

    Parameters
    ----------
    encoder
        Changed in place by each step.
    data
        (n, n_features) on the encoder's device; bfloat16 where `encoder.in_bfloat16`, else float32.
    batch_size
        At most so many triplets a step.
    loss
        Of a batch.
    learning_rate
        Of Adam.
    seed
        Of dropout.
    """

    def __init__(
        self,
        encoder: Encoder,
        data: torch.Tensor,
        batch_size: int,
        loss: TripletLoss,
        learning_rate: float,
        seed: int,
    ) -> None:
        self.data = data
        self.loss = loss
        self.half = encoder.in_bfloat16
        self.vector, self.weights, self.biases = flat_parameters(encoder)
        self.gradient = torch.zeros_like(self.vector)
        shapes = [w.shape for w in self.weights]
        self.weight_grads, self.bias_grads = _views(self.gradient, shapes)
        self.learning_rate = learning_rate
        self.moments = [torch.zeros_like(self.vector), torch.zeros_like(self.vector)]
        self.count = torch.zeros((), device=data.device)  # of steps, as PyTorch's fused Adam keeps it
        self.generator = torch.Generator(data.device).manual_seed(seed)

        rows, device = 3 * batch_size, data.device
        self.input = torch.empty(rows, data.shape[1], dtype=data.dtype, device=device)
        self.units = [torch.empty(rows, shape[0], device=device) for shape in shapes]
        self.below = [torch.empty_like(u) for u in self.units]
        self.scaled = [torch.empty_like(u) for u in self.units[: min(DROP_LAYERS, len(shapes) - 1)]]
        self.pairs = torch.tensor(_PAIRS, device=device)
        self.shift = torch.tensor(SHIFT, device=device)

    def __call__(
        self,
        rows: torch.Tensor,
        draws: Sequence[torch.Tensor],
        hard: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Train on the triplets `rows`, int64 (3, b); the sum of their losses, a scalar on the device.

        Parameters
        ----------
        rows
            Anchors, positives and negatives.
        draws
            Of `draw`.
        hard
            From points (3, b, d) to the column of the negative that each anchor takes; None: its own.

        Returns
        -------
        Tensor
            The loss.
        """
        points = self.forward(rows, draws)
        total, gradient = self.loss_gradient(points, None if hard is None else hard(points))
        self.backward(gradient)
        adam(
            [self.vector],
            [self.gradient],
            [self.moments[0]],
            [self.moments[1]],
            [],
            [self.count],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=self.learning_rate,
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )
        return total

    def draw(self, count: int) -> list[torch.Tensor]:
        """What dropout draws for `count` triplets: int16 (3 * count, units) of each layer that has it."""
        sizes = [3 * count * u.shape[1] for u in self.scaled]
        drawn = torch.empty(-(-sum(sizes) // SHORTS), dtype=torch.int64, device=self.data.device)
        drawn.random_(-(2**63), None, generator=self.generator)
        shorts = drawn.view(torch.int16)[: sum(sizes)].split(sizes)
        return [s.view(3 * count, -1) for s in shorts]

    def dropped(self, draws: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """bool, the units that `draws` drop."""
        return [d < DROPPED_BELOW for d in draws]

    def forward(self, rows: torch.Tensor, draws: Sequence[torch.Tensor]) -> torch.Tensor:
        """Points of the triplets, (3, b, d); what `backward` needs stays in the buffers."""
        flat = rows.reshape(-1)
        count = len(flat)
        dropped = self.dropped(draws)
        # Views of the buffers' first rows: of all of them, but in the last batch of an epoch.
        x = torch.index_select(self.data, 0, flat, out=self.input[:count])
        self.multiplied: list[torch.Tensor] = []
        self.inputs: list[torch.Tensor] = []
        self.outputs: list[torch.Tensor] = []
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            out = self.units[i][:count]
            if self.half and i < last:
                x, weight = x.bfloat16(), weight.bfloat16()
                torch.add(x @ weight.T, bias, out=out)
            else:
                torch.addmm(bias, x, weight.T, out=out)
            self.inputs.append(x)
            self.multiplied.append(weight)
            self.outputs.append(out)
            if i == last:
                return out.view(3, count // 3, -1)
            x = torch.selu_(out)
            if i < len(dropped):
                # At SELU's lower limit its slope is 0, so that `backward` needs no mask.
                x.masked_fill_(dropped[i], LOWER)
                x = torch.add(self.shift, x, alpha=GAIN, out=self.scaled[i][:count])
        raise AssertionError("a network without layers")

    def loss_gradient(
        self, points: torch.Tensor, negatives: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of the losses of (3, b, d) points, and the gradient of their mean with respect to the points.

        With `negatives`, int64 (b,), the i-th triplet has the negative of column negatives[i].
        """
        used = points if negatives is None else torch.stack([*points[:2], points[2][negatives]])
        count = used.shape[1]
        difference = (self.pairs @ used.view(3, -1)).view_as(used)
        square = difference.square().sum(-1)
        distance, slope = self.loss.distance_and_slope(square)
        total, pull = self.loss.of_distances(distance)
        pull *= slope / count
        by_pair = (difference * pull[..., None]).view(3, -1)
        gradient = (self.pairs.T @ by_pair).view_as(used)
        if negatives is not None:
            # a dense product in place of a scattered sum, which a GPU adds up in any order
            columns = torch.arange(count, device=negatives.device)
            gradient[2] = (negatives == columns[:, None]).to(gradient.dtype) @ gradient[2].clone()
        return total, gradient

    def backward(self, gradient: torch.Tensor) -> None:
        """Fill the parameters' gradients from that of the points, (3, b, d)."""
        g = gradient.view(-1, gradient.shape[-1])
        for i in range(len(self.weights) - 1, -1, -1):
            torch.sum(g, 0, out=self.bias_grads[i])
            g = g.to(self.inputs[i].dtype)
            if g.dtype == torch.float32:
                torch.mm(g.T, self.inputs[i], out=self.weight_grads[i])
            else:
                self.weight_grads[i].copy_(g.T @ self.inputs[i])
            if i == 0:
                break
            gain = GAIN if i - 1 < len(self.scaled) else 1.0
            below = torch.mul(g @ self.multiplied[i], gain, out=self.below[i - 1][: len(g)])
            g = torch.ops.aten.elu_backward.grad_input(
                below, SELU_ALPHA, SELU_SCALE, 1.0, True, self.outputs[i - 1], grad_input=below
            )


def flat_parameters(encoder: Encoder) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """The encoder's parameters in one vector, weights first, which they become views of: one Adam for all.

    Parameters
    ----------
    encoder
        The network.

    Returns
    -------
    tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]
        The vector, the weights, the biases.
    """
    shapes = [w.shape for w in encoder.weights]
    parameters = [*encoder.weights, *encoder.biases]
    vector = torch.cat([p.detach().reshape(-1) for p in parameters])
    weights, biases = _views(vector, shapes)
    for parameter, view in zip(parameters, [*weights, *biases], strict=True):
        parameter.data = view
    return vector, weights, biases


def _views(vector: torch.Tensor, shapes: list[torch.Size]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    sizes = [s.numel() for s in shapes] + [s[0] for s in shapes]
    parts = list(vector.split(sizes))
    weights = [part.view(shape) for part, shape in zip(parts, shapes, strict=False)]
    return weights, parts[len(shapes) :]
