"""Modules that map activations of two networks to one shape; imported at training time, because they need torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdbench_schemes._pairs import Pair


class Paired(nn.Module):
    """Stores a scheme's pairs of layers; base class of the modules with weights."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        super().__init__()
        self.pairs = tuple(pairs)


class Adapters(Paired):
    """A 1x1 convolution per pair from the student's channels to the teacher's (for vectors, a linear map).

    Weights have PyTorch's default initialisation.

    Parameters
    ----------
    pairs
        Pairs of layers.
    bias
        Whether the convolutions have a bias.
    activated
        Add batch normalisation and ReLU.
    """

    def __init__(self, pairs: Sequence[Pair], *, bias: bool = True, activated: bool = False) -> None:
        super().__init__(pairs)
        self.convolutions = nn.ModuleList()
        for p in pairs:
            c = p.teacher_shape[0]
            convolution = nn.Conv2d(p.student_shape[0], c, 1, bias=bias)
            layers = nn.Sequential(convolution, nn.BatchNorm2d(c), nn.ReLU()) if activated else convolution
            self.convolutions.append(layers)

    def forward(self, k: int, student: Tensor) -> Tensor:
        """Map the student's activations at pair `k` to the teacher's shape.

        Parameters
        ----------
        k
            Index of the pair.
        student
            (b, c, h, w) or (b, d).

        Returns
        -------
        Tensor
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
    """Resize maps (b, c, h, w): each side is reduced by averaging or enlarged by bilinear interpolation.

    Implemented as matrix products, whose gradients are deterministic on a GPU; those of PyTorch's pooling and
    interpolation are not. Computed in float32, or float64 if `maps` is.
    """
    if maps.shape[-2:] == tuple(size):
        return maps
    with torch.autocast(maps.device.type, enabled=False):
        maps = maps.float() if maps.element_size() < 4 else maps
        down, across = (_side(n, m, maps) for n, m in zip(maps.shape[-2:], size, strict=True))
        return down.T @ maps @ across


def _side(n: int, m: int, like: Tensor) -> Tensor:
    """Matrix (n, m) that resizes a side of n pixels to m."""
    pixels = torch.eye(n, dtype=like.dtype, device=like.device)[:, None]
    if m < n:
        return F.adaptive_avg_pool1d(pixels, m)[:, 0]
    return F.interpolate(pixels, size=m, mode="linear", align_corners=False)[:, 0]


def to_common_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Reduce both maps to the smaller height and width of the two."""
    size = (min(student.shape[-2], teacher.shape[-2]), min(student.shape[-1], teacher.shape[-1]))
    return resized(student, size), resized(teacher, size)


def rows(activations: Tensor) -> Tensor:
    """Activations (b, ...) as (b, d)."""
    return activations.flatten(1)
