"""What brings activations of two networks to one shape. Imported when something is trained: it needs torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdbench_schemes._pairs import Pair


class Paired(nn.Module):
    """Keeps the pairs of layers that a scheme settled on; what has weights is derived from it."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        super().__init__()
        self.pairs = tuple(pairs)


class Adapters(Paired):
    """For each pair a 1x1 convolution from the student's channels to the teacher's (linear, for vectors).

    Weights are drawn as torch draws a convolution's.

    Args:
        bias: of the convolutions.
        activated: batch normalisation and ReLU follow.
    """

    def __init__(self, pairs: Sequence[Pair], *, bias: bool = True, activated: bool = False) -> None:
        super().__init__(pairs)
        self.convolutions = nn.ModuleList()
        for p in pairs:
            c = p.teacher_shape[0]
            convolution = nn.Conv2d(p.student_shape[0], c, 1, bias=bias)
            after = nn.Sequential(convolution, nn.BatchNorm2d(c), nn.ReLU()) if activated else convolution
            self.convolutions.append(after)

    def forward(self, k: int, student: Tensor) -> Tensor:
        """The student's activations at pair `k`, as maps of the teacher's shape.

        Args:
            student: (b, c, h, w) or (b, d).

        Returns:
            (b, c', h', w') with the teacher's channels and size, 1x1 for vectors.
        """
        adapted = self.convolutions[k](as_map(student))
        return resized(adapted, map_size(self.pairs[k].teacher_shape))


def as_map(activations: Tensor) -> Tensor:
    """Vectors (b, d) as maps (b, d, 1, 1); maps as they are."""
    return activations[:, :, None, None] if activations.ndim == 2 else activations


def map_size(shape: Sequence[int]) -> tuple[int, int]:
    """Height and width of one image's maps (c, h, w); 1 and 1 for a vector (d,)."""
    return (shape[1], shape[2]) if len(shape) == 3 else (1, 1)


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (b, c, h, w) made smaller by averaging, larger by bilinear interpolation, each side for itself.

    As products with matrices, whose gradients are the same each time: those of PyTorch's own pooling and
    interpolation are not, on a GPU. Computed in float32, or float64 where given.
    """
    if maps.shape[-2:] == tuple(size):
        return maps
    with torch.autocast(maps.device.type, enabled=False):
        maps = maps.float() if maps.element_size() < 4 else maps
        down, across = (_side(n, m, maps) for n, m in zip(maps.shape[-2:], size, strict=True))
        return down.T @ maps @ across


def _side(n: int, m: int, like: Tensor) -> Tensor:
    """(n, m), from n places in a row to m."""
    places = torch.eye(n, dtype=like.dtype, device=like.device)[:, None]
    if m < n:
        return F.adaptive_avg_pool1d(places, m)[:, 0]
    return F.interpolate(places, size=m, mode="linear", align_corners=False)[:, 0]


def to_common_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps averaged down to the smaller height and width of the two."""
    size = (min(student.shape[-2], teacher.shape[-2]), min(student.shape[-1], teacher.shape[-1]))
    return resized(student, size), resized(teacher, size)


def rows(activations: Tensor) -> Tensor:
    """Activations (b, ...) as (b, d)."""
    return activations.flatten(1)
