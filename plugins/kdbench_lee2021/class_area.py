"""Class area ratio (LW section 5.4, Figs. 7 and 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from kdbench.api import MetricResult

if TYPE_CHECKING:
    from kdbench.api import View

#: Margin on each side, as a fraction of the bounding box's width (LW-A10).
MARGIN = 0.05
# Kernel widths beyond the outermost points; less than 1e-5 of a kernel's mass is farther out.
_REACH = 4.5
# Largest number of cells along an axis.
_MAX_GRID = 2048
# A class thinner than this fraction of the embedding's width has no area.
_FLAT = 1e-5


class ClassArea:
    """Area of each class' region in a 2-D embedding over the area of the region of all points.

    LW use "Gaussian density estimation" without reporting the level, the bandwidth or the total area. Assumption
    LW-A10: a region is the smallest one that contains the fraction `level` of the mass of a Gaussian kernel
    density estimate (Scott's bandwidth, full covariance, as in `scipy.stats.gaussian_kde`) inside the bounding
    box of all points plus 5 % on each side. The density is evaluated exactly, on a grid along the axes of its
    kernel, where it factorises into one matrix product. So small or slanted classes are resolved as well as
    large ones, and ratios are invariant to scaling, stretching and translation of the embedding.

    The ratio increases with fewer points per class (Scott's bandwidth is n^(-1/6)): compare equal n only.

    Values: ``median`` (primary), ``mean``, ``q25``, ``q75`` over classes, all >= 0; ``left_out``: number of
    classes without an area (fewer than 3 points, or points on a line). If no class has an area (a collapsed
    embedding), only ``left_out`` is reported.

    Arrays: ``ratio`` float64 (n_classes,), NaN for classes without an area; and, for drawing the embedding,
    ``label`` int32 (n,), the class of each point, and ``superclass`` int32 (n_classes,), if any.

    Parameters
    ----------
    level
        Mass of a region, strictly between 0 and 1.
    bandwidth_factor
        Factor on Scott's bandwidth, > 0.
    grid
        Smallest number of cells along each axis, 16..2048. More are used if a cell would be wider than half a
        kernel.
    estimator
        "kde", or "normal": the ellipse of one fitted normal distribution, the other reading of LW, which
        ignores `bandwidth_factor`, `grid` and the bounding box.

    Attributes
    ----------
    invariances
        Transformations of the inputs that do not change the values.
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
        if not 16 <= grid <= _MAX_GRID:
            raise ValueError(f"grid={grid!r}: 16 <= grid <= {_MAX_GRID}")
        if estimator not in ("kde", "normal"):
            raise ValueError(f"estimator={estimator!r}: 'kde' or 'normal'")
        self.level = level
        self.bandwidth_factor = bandwidth_factor
        self.grid = grid
        self.estimator = estimator

    def __call__(self, view: View) -> MetricResult:
        """Measure `view`.

        Parameters
        ----------
        view
            The inputs listed in the spec's `needs`.

        Returns
        -------
        MetricResult
            The values, arrays and figures that the class describes.

        Raises
        ------
        ValueError
            The embedding is not two-dimensional, not finite or does not match the labels, or
            `bandwidth_factor` is too small for the grid.
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
        finite = ratio[np.isfinite(ratio)]
        values = {"left_out": float(len(ratio) - len(finite))}
        if len(finite):
            q25, median, q75 = np.quantile(finite, [0.25, 0.5, 0.75])
            values |= {
                "median": float(median),
                "mean": float(finite.mean()),
                "q25": float(q25),
                "q75": float(q75),
            }
        arrays = {"ratio": ratio, "label": labels.astype(np.int32)}
        if view.superclass_of is not None:
            arrays["superclass"] = np.asarray(view.superclass_of, dtype=np.int32)
        return MetricResult(values, arrays, setting=self._setting(len(points)))

    def ratios(self, points: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
        """Ratio of each class, float64 (n_classes,), NaN without an area; `points` (n, 2), `labels` (n,)."""
        ratio = np.full(n_classes, np.nan)
        width = np.ptp(points, axis=0)
        if (width <= 0).any():
            return ratio
        # Scaling to the unit box does not change the ratios and makes `_FLAT` relative to each axis.
        unit = (points - points.min(axis=0)) / width
        total = self.area(unit)
        if total is None:
            return ratio
        for c in range(n_classes):
            area = self.area(unit[labels == c])
            if area is not None:
                ratio[c] = area / total
        return ratio

    def area(self, points: np.ndarray) -> float | None:
        """Area of the region of `points` (n, 2) in the unit box of all points; None if it has no area."""
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
        return count_cells(mass, self.level) * cell * density.scale

    def _setting(self, n: int) -> str:
        text = f"n={n}, {self.estimator}"
        if self.estimator == "normal":
            return text
        text += f", level={self.level:g}"
        return text if self.bandwidth_factor == 1 else f"{text}, bandwidth x{self.bandwidth_factor:g}"


@dataclass(frozen=True)
class Gaussian:
    """Mean and covariance of points in the unit box.

    Attributes
    ----------
    mean
        float64 (2,).
    factor
        Lower Cholesky factor (2, 2) of the covariance (normalised by n - 1).
    """

    mean: np.ndarray
    factor: np.ndarray

    @classmethod
    def fit(cls, points: np.ndarray) -> Gaussian | None:
        """Fit to `points` (n, 2); None for fewer than 3 points or points on a line."""
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
        """Boolean mask of the whitened grid first x second: cells in the unit box and its margin."""
        x = self.mean[0] + self.factor[0, 0] * first
        y = self.mean[1] + self.factor[1, 0] * first[:, None] + self.factor[1, 1] * second
        return ((x >= -MARGIN) & (x <= 1 + MARGIN))[:, None] & (y >= -MARGIN) & (y <= 1 + MARGIN)


def _axis(values: np.ndarray, bandwidth: float, grid: int) -> np.ndarray:
    """Evenly spaced cell centres along one whitened axis that cover all kernels."""
    low, high = values.min() - _REACH * bandwidth, values.max() + _REACH * bandwidth
    cells = int(np.clip(np.ceil(2 * (high - low) / bandwidth), grid, _MAX_GRID))
    step = (high - low) / cells
    if step > bandwidth:
        raise ValueError(
            f"bandwidth_factor is too small: the embedding is {(high - low) / bandwidth:.0f} kernels "
            f"wide, and at most {_MAX_GRID} cells are used"
        )
    return low + step * (np.arange(cells) + 0.5)


def count_cells(mass: np.ndarray, level: float) -> float:
    """Number of the densest cells that contain the fraction `level` of the mass; the last one counts in part."""
    ordered = np.sort(mass, axis=None)[::-1].astype(np.float64)
    cumulative = np.cumsum(ordered)
    target = level * cumulative[-1]
    last = int(np.searchsorted(cumulative, target))
    return last + 1 - (cumulative[last] - target) / ordered[last]
