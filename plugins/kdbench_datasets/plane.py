"""The plane that shapes are drawn in, for many images at once, and the parts that shapes are made of.

Masks use only additions, products, square roots and comparisons, which every processor rounds in the same way:
a seed gives the same images on every machine. Angles are represented by unit vectors and their powers.
"""

from __future__ import annotations

import math
from functools import cached_property
from itertools import pairwise

import numpy as np


class Plane:
    """Sample points of n images in the coordinates of their objects, which are about the size of the unit disc.

    Parameters
    ----------
    x
        Horizontal coordinates, float32 (n, s, s).
    y
        Vertical coordinates, float32 (n, s, s); they grow downwards.
    traits
        float32 (n, t) in 0..1: variation between images of one class.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, traits: np.ndarray) -> None:
        self.x, self.y, self._traits = x, y, traits

    def trait(self, i: int, low: float, high: float) -> np.ndarray:
        """Trait `i` scaled to `low`..`high`: (n, 1, 1)."""
        return (np.float32(low) + np.float32(high - low) * self._traits[:, i])[:, None, None]

    @cached_property
    def rr(self) -> np.ndarray:
        """Squared distance to the centre."""
        return self.x * self.x + self.y * self.y

    @cached_property
    def r(self) -> np.ndarray:
        return np.sqrt(self.rr)

    def waves(self, m: int) -> tuple[np.ndarray, np.ndarray]:
        """cos(m a) and sin(m a) of each point's angle a, as the m-th power of its unit vector."""
        inverse = 1 / np.maximum(self.r, np.float32(1e-6))
        base = (self.x * inverse, self.y * inverse)
        result: tuple[np.ndarray, np.ndarray] | None = None
        while True:  # by squaring
            if m & 1:
                result = base if result is None else _product(result, base)
            m >>= 1
            if not m:
                assert result is not None
                return result
            base = _product(base, base)

    def disc(self, cx: float, cy: float, radius: float | np.ndarray) -> np.ndarray:
        dx, dy = self.x - cx, self.y - cy
        return dx * dx + dy * dy < radius * radius

    def box(self, cx: float, cy: float, w: float | np.ndarray, h: float | np.ndarray) -> np.ndarray:
        """A rectangle of half-width w and half-height h, upright."""
        return (np.abs(self.x - cx) < w) & (np.abs(self.y - cy) < h)

    def along(self, turn: float) -> np.ndarray:
        """Coordinate in the direction of `turn` (1: a full turn)."""
        c, s = direction(turn)
        return self.x * c + self.y * s

    def stroke(
        self, x0: float, y0: float, x1: float, y1: float, w: float | np.ndarray, overhang: bool = True
    ) -> np.ndarray:
        """A bar from (x0, y0) to (x1, y1) of half-width w; with `overhang` its ends reach w further."""
        length = math.hypot(x1 - x0, y1 - y0)
        c, s = (x1 - x0) / length, (y1 - y0) / length
        dx, dy = self.x - (x0 + x1) / 2, self.y - (y0 + y1) / 2
        reach = length / 2 + (w if overhang else 0.0)
        return (np.abs(dx * c + dy * s) < reach) & (np.abs(dy * c - dx * s) < w)

    def strokes(self, path: tuple[tuple[float, float], ...], w: float | np.ndarray) -> np.ndarray:
        """Bars from point to point."""
        pairs = pairwise(path)
        return union(*(self.stroke(*a, *b, w) for a, b in pairs))

    def convex(self, corners: tuple[tuple[float, float], ...]) -> np.ndarray:
        """A convex polygon, corners clockwise as seen on the screen."""
        inside: np.ndarray | None = None
        for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
            side = self.x * -(by - ay) + self.y * (bx - ax) > ay * (bx - ax) - ax * (by - ay)
            inside = side if inside is None else inside & side
        assert inside is not None
        return inside


def direction(turn: float) -> tuple[float, float]:
    """Unit vector at `turn` full turns: 0 is right, 0.25 is down."""
    return math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn)


def union(*parts: np.ndarray) -> np.ndarray:
    result = parts[0]
    for part in parts[1:]:
        result = result | part
    return result


def _product(
    a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]
