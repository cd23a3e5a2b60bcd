"""The modules of `reviewkd`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdbench_schemes._adapters import Paired, as_map, map_size
from kdbench_schemes._pairs import Pair


class Fusion(nn.Module):
    """ABF, attention-based fusion (section 3.3): one layer of the student merged with what was merged behind it.

    Args:
        inputs: channels of the student's layer.
        width: channels of what is merged.
        outputs: channels of the teacher's layer.
        deepest: nothing is behind it.
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

    def forward(self, student: Tensor, behind: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """What is compared with the teacher, (b, outputs, *size), and what was merged, (b, width, *size).

        Args:
            student: (b, inputs, h, w).
            behind: (b, width, h', w'), what was merged behind this layer; None for the deepest.
            size: of the teacher's maps.
        """
        merged = self.enter(student)
        if self.attention is not None:
            assert behind is not None
            behind = F.interpolate(behind, merged.shape[-2:], mode="nearest")
            share = self.attention(torch.cat([merged, behind], 1)).sigmoid()
            merged = merged * share[:, :1] + behind * share[:, 1:]
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
        """The student's activations by pair to maps (b, c, h, w) of the teacher's shapes."""
        found: list[Tensor] = []
        behind = None
        for layer, fusion, pair in reversed(list(zip(student, self.fusions, self.pairs, strict=True))):
            out, behind = fusion(as_map(layer), behind, map_size(pair.teacher_shape))
            found.insert(0, out)
        return found
