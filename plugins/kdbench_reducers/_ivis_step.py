"""One optimiser step of ivis-torch, forward and backward written out.

The layers are so small that a step through autograd spends much of its time beside the products: a graph of
some 60 nodes, temporaries that are allocated anew, dropout that decides on one unit at a time. Here the same
step is some 50 operations on buffers that are allocated once. What it computes is what autograd computes of
`Encoder.forward` and `TripletLoss`; a test holds the one to the other.
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

_SHORTS = 4  # of 16 bits in a number drawn
# A unit is dropped where 16 random bits, as a signed number, lie below this: a share of 0.100006.
_DROPPED_BELOW = round(DROPOUT * 2**16) - 2**15 - 0.5
# exp of it is lost beside 1, but is not so small that a CPU takes long over it.
_FLOOR = -80.0
# Rows of _PAIRS @ (anchor, positive, negative) are the differences of the pairs (ap, an, pn).
_PAIRS = ((1.0, -1.0, 0.0), (1.0, 0.0, -1.0), (0.0, 1.0, -1.0))


class Step:
    """Steps of Adam on `encoder`, whose parameters become views of one vector.

    Args:
        encoder: changed in place by each step.
        data: (n, n_features) on the encoder's device; bfloat16 where `encoder.half_first`, else float32.
        batch_size: at most so many triplets a step.
        loss: of a batch.
        learning_rate: of Adam.
    """

    def __init__(
        self,
        encoder: Encoder,
        data: torch.Tensor,
        batch_size: int,
        loss: TripletLoss,
        learning_rate: float,
    ) -> None:
        self.data = data
        self.loss = loss
        self.half = encoder.half_first
        self.vector, self.weights, self.biases = _flat(encoder)
        self.gradient = torch.zeros_like(self.vector)
        shapes = [w.shape for w in self.weights]
        self.weight_grads, self.bias_grads = _views(self.gradient, shapes)
        self.learning_rate = learning_rate
        self.moments = [torch.zeros_like(self.vector), torch.zeros_like(self.vector)]
        self.count = torch.zeros((), device=data.device)  # of steps, as PyTorch's fused Adam keeps it

        rows, device = 3 * batch_size, data.device
        self.input = torch.empty(rows, data.shape[1], dtype=data.dtype, device=device)
        self.units = [torch.empty(rows, shape[0], device=device) for shape in shapes]
        self.slopes = [torch.empty_like(u) for u in self.units]
        drops = self.units[: min(DROP_LAYERS, len(shapes) - 1)]
        self.scaled = [torch.empty_like(u) for u in drops]
        count = sum(u.numel() for u in drops)
        self.bits = torch.empty(-(-count // _SHORTS), dtype=torch.int64, device=device)
        self.caps = torch.empty(count, device=device)
        self.pairs = torch.tensor(_PAIRS, device=device)
        self.shift, self.lower = torch.tensor(SHIFT, device=device), torch.tensor(LOWER, device=device)
        if self.half:
            self.half_weight = torch.empty(shapes[0], dtype=torch.bfloat16, device=device)
            self.half_grad = torch.empty_like(self.half_weight)
            self.half_units = torch.empty(rows, shapes[0][0], dtype=torch.bfloat16, device=device)

    def __call__(
        self,
        rows: torch.Tensor,
        caps: Sequence[torch.Tensor],
        hard: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Train on the triplets `rows`, int64 (3, b); the sum of their losses, a scalar on the device.

        Args:
            caps: as of `draw_caps`.
            hard: from points (3, b, d) to the column of the negative that each anchor takes; None: its own.
        """
        points = self.forward(rows, caps)
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
            beta1=0.9,
            beta2=0.999,
            lr=self.learning_rate,
            weight_decay=0.0,
            eps=1e-7,  # Keras' own; PyTorch's is 1e-8
            maximize=False,
        )
        return total

    def draw_caps(self, count: int, generator: torch.Generator) -> list[torch.Tensor]:
        """Of each layer with dropout, (3 * count, units): what its units are capped at before SELU.

        inf for a unit that is kept; `_FLOOR` for one that is dropped, because SELU's value there is the lower
        limit that alpha dropout sets it to. A minimum is vectorised, which choosing by a mask is not on a CPU.
        Valid until called again.
        """
        self.bits.random_(-(2**63), None, generator=generator)
        self.caps.copy_(self.bits.view(torch.int16)[: len(self.caps)])
        self.caps.sub_(_DROPPED_BELOW).mul_(torch.inf).clamp_min_(_FLOOR)
        whole = self.caps.split([u.numel() for u in self.scaled])
        return [c.view_as(u)[: 3 * count] for c, u in zip(whole, self.scaled, strict=True)]

    def forward(self, rows: torch.Tensor, caps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Points of the triplets, (3, b, d); what `backward` needs stays in the buffers."""
        flat = rows.reshape(-1)
        count = len(flat)
        # Views of the buffers' first rows: of all of them, but in the last batch of an epoch.
        x = self.taken = torch.index_select(self.data, 0, flat, out=self.input[:count])
        self.inputs: list[torch.Tensor] = []
        self.outputs: list[torch.Tensor] = []
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            self.inputs.append(x)
            out = self.units[i][:count]
            if i == 0 and self.half:
                self.half_weight.copy_(weight)
                product = torch.mm(x, self.half_weight.T, out=self.half_units[:count])
                torch.add(product, bias, out=out)
            else:
                torch.addmm(bias, x, weight.T, out=out)
            self.outputs.append(out)
            if i == last:
                return out.view(3, count // 3, -1)
            if i < len(caps):
                torch.minimum(out, caps[i], out=out)
            x = self._selu(out, self.slopes[i][:count])
            if i < len(caps):
                x = torch.add(self.shift, x, alpha=GAIN, out=self.scaled[i][:count])
        raise AssertionError("a network without layers")

    def _selu(self, x: torch.Tensor, scratch: torch.Tensor) -> torch.Tensor:
        """SELU in place. On a CPU by `exp`, which is vectorised; PyTorch's own goes through a slow `expm1`."""
        if x.is_cuda:
            return torch.selu_(x)
        torch.clamp_max(x, 0, out=scratch).exp_()
        x.relu_().add_(scratch, alpha=SELU_ALPHA)
        return torch.add(self.lower, x, alpha=SELU_SCALE, out=x)

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
            if i == 0:
                break
            torch.mm(g.T, self.inputs[i], out=self.weight_grads[i])
            below = self.slopes[i - 1][: len(g)]
            gain = GAIN if i - 1 < len(self.scaled) else 1.0
            torch.addmm(below, g, self.weights[i], beta=0, alpha=gain, out=below)
            # From SELU's value: at its lower limit the slope is 0, so that a dropped unit needs no mask.
            g = torch.ops.aten.elu_backward.grad_input(
                below, SELU_ALPHA, SELU_SCALE, 1.0, True, self.outputs[i - 1], grad_input=below
            )
        if self.half:
            half = self.half_units[: len(g)].copy_(g)
            self.weight_grads[0].copy_(torch.mm(half.T, self.taken, out=self.half_grad))
        else:
            torch.mm(g.T, self.taken, out=self.weight_grads[0])


def _flat(encoder: Encoder) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """The encoder's parameters in one vector, which they become views of: one Adam for all of them."""
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
