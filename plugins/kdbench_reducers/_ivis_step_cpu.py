"""One optimiser step of ivis-torch on a CPU: products by PyTorch, what lies between them compiled.

Two thirds of a step of the usual size were some 50 small operations, each of which goes through memory and
PyTorch's dispatcher once. Here what lies between two products is one pass. `_ivis_step.Step` is the same in plain
operations, and a test holds this to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from kdbench_reducers import _ivis_kernels as kernels
from kdbench_reducers._ivis_loss import TripletLoss
from kdbench_reducers._ivis_names import LossVariant
from kdbench_reducers._ivis_network import DROP_LAYERS, Encoder
from kdbench_reducers._ivis_step import BETAS, DROPPED_BELOW, EPSILON, SHORTS, flat_parameters

_VARIANTS: dict[LossVariant, int] = {"both": 0, "min": 1, "an": 2}
_BELOW = np.int16(DROPPED_BELOW)


class CpuStep:
    """`Step` for an encoder and data on the CPU; arguments and calls as there."""

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
        self.learning_rate = learning_rate
        self.count = 0  # of steps
        self._loss = _VARIANTS[loss.variant], loss.squared, np.float32(loss.margin)
        self._random = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
        self._drawn: dict[int, np.ndarray] = {}
        vector, weights, biases = flat_parameters(encoder)
        *shapes, last = [w.shape for w in weights]
        self._widths = [s[0] for s in shapes]
        self._last = weights[-1], biases[-1]
        self._biases = [b.numpy() for b in biases[:-1]]

        # The weights of the hidden layers as they are multiplied, and gradients as the products give them.
        self.dtype = torch.bfloat16 if encoder.in_bfloat16 else torch.float32
        sizes = [s.numel() for s in shapes]
        inside = sum(sizes)
        held = vector[:inside].to(self.dtype)  # float32: the very weights
        self.weights = [w.view(s) for w, s in zip(held.split(sizes), shapes, strict=True)]
        hidden_grad = torch.zeros(inside, dtype=self.dtype)
        other_grad = torch.zeros(len(vector) - inside)
        last_grad, *self.bias_grads = other_grad.split([last.numel(), *self._widths, last[0]])
        self.weight_grads = [g.view(s) for g, s in zip(hidden_grad.split(sizes), shapes, strict=True)]
        self.weight_grads.append(last_grad.view(last))
        self._bias_grads = [g.numpy() for g in self.bias_grads]
        flat = [vector.numpy(), *np.zeros((2, len(vector)), np.float32)]
        self._hidden = [*(a[:inside] for a in flat), _array(hidden_grad)]
        self._rounded = _array(held) if encoder.in_bfloat16 else None
        self._other = [*(a[inside:] for a in flat), other_grad.numpy()]
        self._buffers: dict[int, _Buffers] = {}

    def __call__(
        self,
        rows: torch.Tensor,
        bits: Sequence[np.ndarray],
        hard: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> float:
        """Train on the triplets `rows`; the sum of their losses."""
        b = self._forward(rows, bits)
        negatives = b.own if hard is None else hard(b.points.view(3, len(b.own), -1)).numpy()
        total = kernels.triplet_gradient(b.triplets, negatives, *self._loss, b.gradient)
        self._backward(b)
        self._adam()
        return total

    def draw_bits(self, count: int) -> list[np.ndarray]:
        """As `Step.draw_bits`, in arrays that are valid until called again."""
        sizes = [3 * count * width for width in self._widths[:DROP_LAYERS]]
        if count not in self._drawn:
            self._drawn[count] = np.empty(-(-sum(sizes) // SHORTS), np.uint64)
        drawn = self._drawn[count]
        kernels.fill_with_bits(np.uint64(self._random), drawn)
        self._random = (self._random + len(drawn) * kernels.GAMMA) % 2**64
        shorts = drawn.view(np.int16)
        first = np.cumsum([0, *sizes])
        return [
            shorts[a : a + size].reshape(3 * count, -1) for a, size in zip(first[:-1], sizes, strict=True)
        ]

    def _forward(self, rows: torch.Tensor, bits: Sequence[np.ndarray]) -> _Buffers:
        flat = rows.reshape(-1)
        if len(flat) not in self._buffers:  # one for whole batches, one for the last of an epoch
            self._buffers[len(flat)] = _Buffers(len(flat), self)
        b = self._buffers[len(flat)]
        torch.index_select(self.data, 0, flat, out=b.inputs[0])
        for i, weight in enumerate(self.weights):
            torch.mm(b.inputs[i], weight.T, out=b.products[i])
            product, out = b.activation[i]
            if i < len(bits):
                kernels.activate_and_drop(product, self._biases[i], bits[i], _BELOW, out)
            else:
                kernels.activate(product, self._biases[i], out)
        weight, bias = self._last
        torch.addmm(bias, b.inputs[-1], weight.T, out=b.points)
        return b

    def _backward(self, b: _Buffers) -> None:
        gradient = b.point_gradient
        torch.sum(gradient, 0, out=self.bias_grads[-1])
        torch.mm(gradient.T, b.inputs[-1], out=self.weight_grads[-1])
        torch.mm(gradient, self._last[0], out=b.below[-1])
        for i in range(len(self.weights) - 1, -1, -1):
            below, slope, pulled = b.pulling[i]
            kernels.pull_back(below, slope, self._bias_grads[i], pulled)
            torch.mm(b.pulled[i].T, b.inputs[i], out=self.weight_grads[i])
            if i:
                torch.mm(b.pulled[i], self.weights[i], out=b.below[i - 1])

    def _adam(self) -> None:
        self.count += 1
        first, second = BETAS
        rate = np.float32(self.learning_rate / (1 - first**self.count))
        root = np.float32((1 - second**self.count) ** -0.5)
        how = rate, np.float32(first), np.float32(second), root, np.float32(EPSILON)
        if self._rounded is None:
            kernels.adam(*self._hidden, *how)
        else:
            kernels.adam_and_round(*self._hidden, self._rounded, *how)
        kernels.adam(*self._other, *how)


class _Buffers:
    """Of a step on `rows` rows: tensors for the products, and arrays of the same memory for the kernels."""

    def __init__(self, rows: int, step: CpuStep) -> None:
        widths, dtype = step._widths, step.dtype
        points = len(step._last[1])

        def empty(width: int, kind: torch.dtype = dtype) -> torch.Tensor:
            return torch.empty(rows, width, dtype=kind)

        inputs = [empty(step.data.shape[1]), *(empty(w) for w in widths[:-1])]
        self.inputs = [*inputs, empty(widths[-1], torch.float32)]
        #: overwritten by SELU's slopes
        self.products = [empty(w) for w in widths]
        self.activation = [
            (_array(p), _array(x)) for p, x in zip(self.products, self.inputs[1:], strict=True)
        ]
        #: gradients with respect to what the activations returned
        self.below = [*(empty(w) for w in widths[:-1]), empty(widths[-1], torch.float32)]
        self.pulled = [empty(w) for w in widths]
        self.pulling = [
            tuple(map(_array, t)) for t in zip(self.below, self.products, self.pulled, strict=True)
        ]
        self.points, self.point_gradient = empty(points, torch.float32), empty(points, torch.float32)
        self.triplets, self.gradient = (
            t.view(3, rows // 3, points).numpy() for t in (self.points, self.point_gradient)
        )
        self.own = np.arange(rows // 3)


def _array(tensor: torch.Tensor) -> np.ndarray:
    """The tensor's memory; bfloat16 as int16."""
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
