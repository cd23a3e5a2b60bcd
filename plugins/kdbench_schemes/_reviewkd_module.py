"""The modules of `reviewkd`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdbench_schemes._adapters import Paired, as_map, map_size
from kdbench_schemes._pairs import Pair


class Fusion(nn.Module):
    """ABF, attention-based fusion (section 3.3): merge a layer of the student with the merged deeper layers.

    Parameters
    ----------
    inputs
        Channels of the student's layer.
    width
        Channels of the merged layers.
    outputs
        Channels of the teacher's layer.
    deepest
        Whether there is no deeper layer.
    """

    def __init__(self, inputs: int, width: int, outputs: int, *, deepest: bool) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width))
        self.leave = nn.Sequential(
            nn.Conv2d(width, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)
        )
        self.attention = None if deepest else nn.Conv2d(2 * width, 2, 1)
        for part in (self.enter[0], self.leave[0]):
            assert isinstance(part, nn.Conv2d)
            nn.init.kaiming_uniform_(part.weight, a=1)

    def forward(self, student: Tensor, deeper: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Merge one layer.

        Parameters
        ----------
        student
            (b, inputs, h, w).
        deeper
            Merged deeper layers (b, width, h', w'); None for the deepest layer.
        size
            Height and width of the teacher's maps.

        Returns
        -------
        tuple[Tensor, Tensor]
            The prediction of the teacher's layer (b, outputs, *size) and the merged layers (b, width, *size).
        """
        merged = self.enter(student)
        if self.attention is not None:
            assert deeper is not None
            deeper = F.interpolate(deeper, merged.shape[-2:], mode="nearest")
            share = self.attention(torch.cat([merged, deeper], 1)).sigmoid()
            merged = merged * share[:, :1] + deeper * share[:, 1:]
        if merged.shape[-2:] != tuple(size):
            merged = F.interpolate(merged, size, mode="nearest")
        return self.leave(merged), merged


class Review(Paired):
    """The fusions of all pairs, from input to output."""

    def __init__(self, pairs: Sequence[Pair], width: int) -> None:
        super().__init__(pairs)
        width = min(width, pairs[-1].student_shape[0])
        self.fusions = nn.ModuleList(
            Fusion(p.student_shape[0], width, p.teacher_shape[0], deepest=p is pairs[-1]) for p in pairs
        )

    def forward(self, student: Sequence[Tensor]) -> list[Tensor]:
        """Map the student's activations of each pair to (b, c, h, w) of the teacher's shape."""
        outputs: list[Tensor] = []
        merged = None
        for layer, fusion, pair in reversed(list(zip(student, self.fusions, self.pairs, strict=True))):
            output, merged = fusion(as_map(layer), merged, map_size(pair.teacher_shape))
            outputs.insert(0, output)
        return outputs
