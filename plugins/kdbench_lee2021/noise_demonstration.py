"""The noise demonstration as a metric (LW section 3.2, Fig. 1)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from kdbench.api import MetricResult
from kdbench_lee2021.noise_figure import NOISE, draw, noise_demonstration

if TYPE_CHECKING:
    from kdbench.api import View


class NoiseDemonstration:
    """Within-cluster variance in embeddings of Gaussian clusters with increasing noise.

    This metric measures no network. It demonstrates a premise of the other metrics: noisier features give
    wider clusters in an embedding. It uses each of the suite's reducers with the suite's parameters. The data are
    an assumption (see `kdbench_lee2021.noise_figure`).

    Values, fractions of the total variance that are within clusters, from 0 (clusters are points) to 1 (no
    clusters):

    - ``<reducer>.noise-<level>``: of an embedding; ``features.noise-<level>``: of its input;
    - ``within``: mean over reducers and levels.

    Arrays: ``noise`` (levels,), ``labels`` int64 (n,), ``points`` float32 (reducers, levels, n, 2), ``share``
    (reducers, levels) and ``share-before`` (levels,). Figure: ``panels``.

    Parameters
    ----------
    seed
        Seed of the clusters, >= 0.
    noise
        Standard deviations of the noise, distinct and >= 0; that of the centres is 1.
    clusters
        Number of clusters, >= 2.
    points
        Number of points per cluster, >= 2. A reducer with k neighbours needs more than k points.
    features
        Number of features, >= 1.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        noise: tuple[float, ...] = NOISE,
        clusters: int = 10,
        points: int = 100,
        features: int = 64,
    ) -> None:
        if seed < 0:
            raise ValueError(f"seed={seed!r}: at least 0")
        if not noise or len(set(noise)) < len(noise) or not all(0 <= s < np.inf for s in noise):
            raise ValueError(f"noise={noise!r}: one or more different numbers >= 0")
        for name, value, least in (
            ("clusters", clusters, 2),
            ("points", points, 2),
            ("features", features, 1),
        ):
            if value < least:
                raise ValueError(f"{name}={value!r}: at least {least}")
        self.seed = seed
        self.noise = noise
        self.clusters = clusters
        self.points = points
        self.features = features

    def __call__(self, view: View) -> MetricResult:
        """Embed the clusters with the reducers of `view`.

        Parameters
        ----------
        view
            The suite's reducers.

        Returns
        -------
        MetricResult
            The values, arrays and figures that the class describes.

        Raises
        ------
        ValueError
            There is no reducer, two reducers share a value name, or one does not return 2 dimensions.
        """
        names = {label: _simple(label) for label in view.reducers}
        duplicates = sorted(label for label, name in names.items() if list(names.values()).count(name) > 1)
        if duplicates:
            raise ValueError(
                f"reducers {', '.join(duplicates)} would share a value name: change their labels"
            )
        panels = noise_demonstration(
            seed=self.seed,
            reducers=view.reducers,
            noise=self.noise,
            n_clusters=self.clusters,
            points_per_cluster=self.points,
            n_features=self.features,
        )
        size = (len(names), len(self.noise))
        share = np.array([p.spread for p in panels]).reshape(size)
        before = np.array([p.spread_before for p in panels]).reshape(size)[0]
        values = {"within": float(share.mean())}
        values |= {f"{names[p.reducer]}.noise-{p.noise:g}": p.spread for p in panels}
        values |= {f"features.noise-{s:g}": float(v) for s, v in zip(self.noise, before, strict=True)}
        arrays = {
            "noise": np.array(self.noise, dtype=np.float64),
            "labels": panels[0].labels,
            "points": np.stack([p.points for p in panels]).reshape(*size, -1, 2),
            "share": share,
            "share-before": before,
        }
        setting = f"n={self.clusters * self.points}, d={self.features}, {self.clusters} clusters"
        return MetricResult(values, arrays, setting=setting, figures={"panels": draw(panels)})


def _simple(label: str) -> str:
    """Label in lower-case letters, digits and single dashes."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
