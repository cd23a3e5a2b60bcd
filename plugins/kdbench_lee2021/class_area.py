"""Class area ratio (LW section 5.4, Figs. 7 and 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from kdbench.api import MetricResult

if TYPE_CHECKING:
    from kdbench.api import View

MARGIN = 0.05  #: of the bounding box's width, added on each side (LW-A10)
_REACH = 4.5  # kernel widths beyond the outermost points; what lies farther holds less than 1e-5 of a kernel
_FINEST = 2048  # most cells along an axis, whatever `grid` and the kernel's width ask for
_FLAT = 1e-5  # a class thinner than this share of the embedding's own width has no area


class ClassArea:
    """Area of each class' region in a 2-D embedding over the area of the region of all points.

    LW: "Gaussian density estimation", neither level, bandwidth nor the whole area given. Assumption LW-A10: a
    region is the smallest one that holds `level` of the mass of a Gaussian kernel density estimate (Scott's
    bandwidth, full covariance, as `scipy.stats.gaussian_kde`) inside the bounding box of all points plus 5 %
    on each side. The density is evaluated exactly, on a grid laid along its own kernel's axes, where it
    factorises into one matrix product; so a small or slanted class is resolved as well as a large one, and
    ratios do not change when the embedding is scaled, stretched or moved.

    The ratio grows as classes have fewer points (Scott's bandwidth is n^(-1/6)): compare equal n alone.

    Values: ``median`` (primary), ``mean``, ``q25``, ``q75`` over classes, all >= 0; ``left_out``: classes
    without an area: fewer than 3 points, or points on a line. Where no class has one (a collapsed embedding)
    only ``left_out`` is given.

    Arrays: ``ratio`` float64 (n_classes,), NaN for classes left out; and, so that the embedding can be drawn,
    ``label`` int32 (n,), the class of each point, and ``superclass`` int32 (n_classes,) where there are any.

    Args:
        level: mass of a region, inside 0..1.
        bandwidth_factor: times Scott's bandwidth, > 0.
        grid: least number of cells along each axis, >= 16. More are used where a cell would be wider than
            half a kernel.
        estimator: "kde"; or "normal", LW's other reading: the ellipse of one fitted normal distribution,
            which uses neither bandwidth nor grid nor the bounding box.
    """

    invariances = (
        "order of images",
        "embedding plus a constant",
        "embedding times a constant",
        "stretch of the embedding",
    )

    def __init__(
        self,
        *,
        level: float = 0.95,
        bandwidth_factor: float = 1.0,
        grid: int = 256,
        estimator: Literal["kde", "normal"] = "kde",
    ) -> None:
        if not 0 < level < 1:
            raise ValueError(f"level={level!r}: 0 < level < 1")
        if not 0 < bandwidth_factor < np.inf:
            raise ValueError(f"bandwidth_factor={bandwidth_factor!r}: a positive number")
        if not 16 <= grid <= _FINEST:
            raise ValueError(f"grid={grid!r}: 16 <= grid <= {_FINEST}")
        if estimator not in ("kde", "normal"):
            raise ValueError(f"estimator={estimator!r}: 'kde' or 'normal'")
        self.level = level
        self.bandwidth_factor = bandwidth_factor
        self.grid = grid
        self.estimator = estimator

    def __call__(self, view: View) -> MetricResult:
        """Measure `view`.

        Raises:
            ValueError: the embedding is not two-dimensional, not finite, or does not fit the labels; or
                `bandwidth_factor` is so small that no grid resolves the kernels.
        """
        points = np.asarray(view.embedding.points, dtype=np.float64)
        labels = np.asarray(view.labels)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(
                f"class-area needs a two-dimensional embedding, got points of shape {points.shape}"
            )
        if len(points) != len(labels) or not len(points):
            raise ValueError(f"{len(points)} embedded points do not fit {len(labels)} labels")
        if not np.isfinite(points).all():
            raise ValueError("the embedding has values that are not finite")
        ratio = self.ratios(points, labels, len(view.class_names))
        known = ratio[np.isfinite(ratio)]
        values = {"left_out": float(len(ratio) - len(known))}
        if len(known):
            q25, median, q75 = np.quantile(known, [0.25, 0.5, 0.75])
            values |= {
                "median": float(median),
                "mean": float(known.mean()),
                "q25": float(q25),
                "q75": float(q75),
            }
        arrays = {"ratio": ratio, "label": labels.astype(np.int32)}
        if view.superclass_of is not None:
            arrays["superclass"] = np.asarray(view.superclass_of, dtype=np.int32)
        return MetricResult(values, arrays, setting=self._setting(len(points)))

    def ratios(self, points: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
        """Ratio of each class, NaN without an area: float64 (n_classes,). `points` (n, 2), `labels` (n,)."""
        ratio = np.full(n_classes, np.nan)
        width = np.ptp(points, axis=0)
        if (width <= 0).any():
            return ratio
        # Stretching to the unit box changes no ratio and makes "flat" mean the same along both axes.
        unit = (points - points.min(axis=0)) / width
        whole = self.area(unit)
        if whole is None:
            return ratio
        for c in range(n_classes):
            area = self.area(unit[labels == c])
            if area is not None:
                ratio[c] = area / whole
        return ratio

    def area(self, points: np.ndarray) -> float | None:
        """Area of the region of `points` (n, 2) in the unit box of all points; None without one."""
        density = Gaussian.fit(points)
        if density is None:
            return None
        if self.estimator == "normal":
            return -2 * np.pi * np.log1p(-self.level) * density.scale
        return self._kde_area(points, density)

    def _kde_area(self, points: np.ndarray, density: Gaussian) -> float:
        bandwidth = self.bandwidth_factor * len(points) ** (-1 / 6)
        white = density.whiten(points)
        axes = [_axis(white[:, d], bandwidth, self.grid) for d in (0, 1)]
        kernels = [
            np.exp(-0.5 * np.square((axis[:, None] - white[:, d]) / bandwidth)).astype(np.float32)
            for d, axis in enumerate(axes)
        ]
        mass = kernels[0] @ kernels[1].T
        mass[~density.inside(axes[0], axes[1])] = 0
        cell = (axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0])
        return cells_holding(mass, self.level) * cell * density.scale

    def _setting(self, n: int) -> str:
        text = f"n={n}, {self.estimator}"
        if self.estimator == "normal":
            return text
        text += f", level={self.level:g}"
        return text if self.bandwidth_factor == 1 else f"{text}, bandwidth x{self.bandwidth_factor:g}"


@dataclass(frozen=True)
class Gaussian:
    """Mean and lower Cholesky factor of the covariance (over n - 1) of points in the unit box."""

    mean: np.ndarray
    factor: np.ndarray

    @classmethod
    def fit(cls, points: np.ndarray) -> Gaussian | None:
        """None for fewer than 3 points or points on a line."""
        if len(points) < 3:
            return None
        covariance = np.cov(points, rowvar=False)
        if np.linalg.eigvalsh(covariance)[0] <= _FLAT**2:
            return None
        return cls(points.mean(axis=0), np.linalg.cholesky(covariance))

    @property
    def scale(self) -> float:
        """Area of a unit square of the whitened plane."""
        return float(self.factor[0, 0] * self.factor[1, 1])

    def whiten(self, points: np.ndarray) -> np.ndarray:
        first = (points[:, 0] - self.mean[0]) / self.factor[0, 0]
        second = (points[:, 1] - self.mean[1] - self.factor[1, 0] * first) / self.factor[1, 1]
        return np.stack([first, second], axis=1)

    def inside(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Which cells of the whitened grid first x second lie in the unit box and its margin: bool."""
        x = self.mean[0] + self.factor[0, 0] * first
        y = self.mean[1] + self.factor[1, 0] * first[:, None] + self.factor[1, 1] * second
        return ((x >= -MARGIN) & (x <= 1 + MARGIN))[:, None] & (y >= -MARGIN) & (y <= 1 + MARGIN)


def _axis(values: np.ndarray, bandwidth: float, grid: int) -> np.ndarray:
    """Cell centres along one whitened axis, evenly spaced from before the first kernel to behind the last."""
    low, high = values.min() - _REACH * bandwidth, values.max() + _REACH * bandwidth
    cells = int(np.clip(np.ceil(2 * (high - low) / bandwidth), grid, _FINEST))
    step = (high - low) / cells
    if step > bandwidth:
        raise ValueError(
            f"bandwidth_factor is too small: the embedding is {(high - low) / bandwidth:.0f} kernels "
            f"wide, and at most {_FINEST} cells are used"
        )
    return low + step * (np.arange(cells) + 0.5)


def cells_holding(mass: np.ndarray, level: float) -> float:
    """How many of the densest cells hold `level` of the mass; the last one counts by the part needed."""
    ordered = np.sort(mass, axis=None)[::-1].astype(np.float64)
    reached = np.cumsum(ordered)
    wanted = level * reached[-1]
    last = int(np.searchsorted(reached, wanted))
    return last + 1 - (reached[last] - wanted) / ordered[last]
