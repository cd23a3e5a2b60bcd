"""One optimiser step of ivis-torch on a CPU: products by PyTorch, what lies between them compiled.

Half of a step of the usual size were some 50 small operations, each of which goes through memory and PyTorch's
dispatcher once. Here what lies between two products is one pass. `_ivis_step.Step` is the same in plain
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
    """`Step` for an encoder and data on the CPU; arguments and calls as there.

    Buffers are made for each number of rows that comes, so that `batch_size` is taken for the sake of `Step` alone.
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
        self.learning_rate = learning_rate
        self.count = 0  # of steps
        self._loss = _VARIANTS[loss.variant], loss.squared, np.float32(loss.margin)
        self._random = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
        vector, weights, biases = flat_parameters(encoder)
        *shapes, last = [w.shape for w in weights]
        self._widths = [s[0] for s in shapes]
        self._last = weights[-1].numpy(), biases[-1].numpy()
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
        self._last_grads = self.weight_grads[-1].numpy(), self._bias_grads[-1], self._bias_grads[-2]
        flat = [vector.numpy(), *np.zeros((2, len(vector)), np.float32)]
        self._hidden = [*(a[:inside] for a in flat), _array(hidden_grad)]
        self._rounded = _array(held) if encoder.in_bfloat16 else None
        self._other = [*(a[inside:] for a in flat), other_grad.numpy()]
        self._buffers: dict[int, _Buffers] = {}

    def __call__(
        self,
        rows: torch.Tensor,
        draws: Sequence[np.uint64],
        hard: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> float:
        """Train on the triplets `rows`; the sum of their losses."""
        b = self._forward(rows, draws)
        negatives = b.own if hard is None else hard(torch.from_numpy(b.triplets)).numpy()
        total = kernels.triplet_gradient(b.triplets, negatives, *self._loss, b.triplet_gradient)
        self._backward(b)
        self._adam()
        return total

    def draw(self, count: int) -> list[np.uint64]:
        """What dropout draws for `count` triplets: of each layer that has it the state its bits come from."""
        states = []
        for width in self._widths[:DROP_LAYERS]:
            states.append(np.uint64(self._random))
            numbers = 3 * count * -(-width // SHORTS)
            self._random = (self._random + numbers * kernels.GAMMA) % 2**64
        self._drawn_for = count
        return states

    def dropped(self, draws: Sequence[np.uint64]) -> list[torch.Tensor]:
        """bool, the units that the draws made last drop."""
        masks = []
        for state, width in zip(draws, self._widths, strict=False):
            bits = np.empty((3 * self._drawn_for, width), np.int16)
            kernels.fill_with_bits(state, bits)
            masks.append(torch.from_numpy(bits < DROPPED_BELOW))
        return masks

    def _buffers_for(self, rows: int) -> _Buffers:
        """One for whole batches, one for the last of an epoch."""
        if rows not in self._buffers:
            self._buffers[rows] = _Buffers(rows, self)
        return self._buffers[rows]

    def _forward(self, rows: torch.Tensor, draws: Sequence[np.uint64]) -> _Buffers:
        flat = rows.reshape(-1)
        b = self._buffers_for(len(flat))
        torch.index_select(self.data, 0, flat, out=b.inputs[0])
        for i, weight in enumerate(self.weights):
            torch.mm(b.inputs[i], weight.T, out=b.products[i])
            product, out = b.activation[i]
            if i < len(draws):
                kernels.activate_and_drop(product, self._biases[i], draws[i], _BELOW, out)
            else:
                kernels.activate(product, self._biases[i], out)
        kernels.points_of(b.units, *self._last, b.points)
        return b

    def _backward(self, b: _Buffers) -> None:
        kernels.points_backward(
            b.point_gradient, b.units, self._last[0], b.slopes[-1], *self._last_grads, b.pulled_last
        )
        for i in range(len(self.weights) - 1, -1, -1):
            torch.mm(b.pulled[i].T, b.inputs[i], out=self.weight_grads[i])
            if i:
                torch.mm(b.pulled[i], self.weights[i], out=b.below[i - 1])
                below, slope, pulled = b.pulling[i - 1]
                kernels.pull_back(below, slope, self._bias_grads[i - 1], pulled)

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
    """Of a step on `rows` rows: tensors for the products, and arrays of the same memory for the kernels.

    As few as can be: what does not stay in a core's second cache is waited for.
    """

    def __init__(self, rows: int, step: CpuStep) -> None:
        *widths, last = step._widths
        dims = len(step._last[1])

        def empty(width: int) -> torch.Tensor:
            return torch.empty(rows, width, dtype=step.dtype)

        #: of each hidden layer
        self.inputs = [empty(step.data.shape[1]), *map(empty, widths)]
        self.products = [*map(empty, widths), empty(last)]  # overwritten by SELU's slopes
        #: of the last layer
        self.units = np.empty((rows, last), np.float32)
        self.points, self.point_gradient = np.empty((2, rows, dims), np.float32)
        self.triplets, self.triplet_gradient = (
            a.reshape(3, rows // 3, dims) for a in (self.points, self.point_gradient)
        )
        self.own = np.arange(rows // 3)
        #: gradients with respect to what each activation returned, and to what it was given: one memory for all
        below, pulled = (empty(max(step._widths)).view(-1) for _ in range(2))
        self.below = [below[: rows * w].view(rows, w) for w in widths]
        self.pulled = [pulled[: rows * w].view(rows, w) for w in step._widths]
        self.pulled_last = _array(self.pulled[-1])
        self.slopes = [_array(p) for p in self.products]
        outputs = [*map(_array, self.inputs[1:]), self.units]
        self.activation = list(zip(self.slopes, outputs, strict=True))
        arrays = map(_array, self.below), self.slopes, map(_array, self.pulled)
        self.pulling = list(zip(*arrays, strict=False))


def _array(tensor: torch.Tensor) -> np.ndarray:
    """The tensor's memory; bfloat16 as int16."""
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
