"""The noise demonstration (LW section 3.2, Fig. 1): less noise in the features, tighter embedded clusters.

LW do not report how the data of Fig. 1 were generated. Assumption: Gaussian clusters with fixed centres in a
high-dimensional space, and isotropic noise that increases from panel to panel. All panels share the random
draws and differ only in the scale of the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Standard deviations of the noise in each feature; that of the centres is 1.
NOISE = (0.25, 0.5, 1.0, 2.0)

#: Paul Tol's "muted" colours (Technical note SRON/EPS/TN/09-002, 2021) and black: ten colours that colour-blind
#: readers can distinguish.
COLOURS = (
    "#332288",
    "#88ccee",
    "#44aa99",
    "#117733",
    "#999933",
    "#ddcc77",
    "#cc6677",
    "#882255",
    "#aa4499",
    "#000000",
)
#: Used in turn if there are more clusters than colours.
MARKERS = ("o", "^", "s", "P")


@dataclass(frozen=True)
class NoisePanel:
    """One embedding of the demonstration.

    Attributes
    ----------
    reducer
        Name of the reducer.
    noise
        Standard deviation of the noise in each feature.
    points
        Embedding float32 (n, 2).
    labels
        Cluster of each point, int64 (n,).
    spread
        Fraction of the embedding's variance that is within clusters, 0 (points) to 1 (no clusters).
    spread_before
        The same for the features before the embedding.
    """

    reducer: str
    noise: float
    points: np.ndarray
    labels: np.ndarray
    spread: float
    spread_before: float


def blobs(
    *, seed: int, noise: float, n_clusters: int = 10, points_per_cluster: int = 100, n_features: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """Draw Gaussian clusters.

    Parameters
    ----------
    seed
        Seed of the centres and of the noise's directions.
    noise
        Standard deviation of the noise, >= 0; it only scales.
    n_clusters
        Number of clusters.
    points_per_cluster
        Number of points in each.
    n_features
        Number of features.

    Returns
    -------
    tuple[ndarray, ndarray]
        Features float32 (n, n_features) and labels int64 (n,), with n = clusters x points.

    Raises
    ------
    ValueError
        A size is below 1, or noise is negative.
    """
    for name, value in (
        ("n_clusters", n_clusters),
        ("points_per_cluster", points_per_cluster),
        ("n_features", n_features),
    ):
        if value < 1:
            raise ValueError(f"{name}={value!r}: at least 1")
    if not 0 <= noise < np.inf:
        raise ValueError(f"noise={noise!r}: a number >= 0")
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((n_clusters, n_features))
    labels = np.repeat(np.arange(n_clusters), points_per_cluster)
    offsets = rng.standard_normal((len(labels), n_features))
    return (centres[labels] + noise * offsets).astype(np.float32), labels


def within_share(points: np.ndarray, labels: np.ndarray) -> float:
    """Fraction of the total variance that is within clusters, 0..1.

    Parameters
    ----------
    points
        (n, d).
    labels
        Cluster of each point, (n,).

    Returns
    -------
    float
        Within-cluster sum of squares over the total sum of squares.

    Raises
    ------
    ValueError
        All points are equal.
    """
    data = np.asarray(points, dtype=np.float64)
    _, index = np.unique(labels, return_inverse=True)
    count = np.bincount(index)
    means = np.stack([np.bincount(index, weights=column) / count for column in data.T], axis=1)
    total = float(np.sum(np.square(data - data.mean(axis=0))))
    if total <= 0:
        raise ValueError("all points are equal: there is no variance")
    return float(np.sum(np.square(data - means[index]))) / total


def noise_demonstration(
    *,
    seed: int,
    reducers: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    noise: Sequence[float] = NOISE,
    n_clusters: int = 10,
    points_per_cluster: int = 100,
    n_features: int = 64,
) -> list[NoisePanel]:
    """Embed the clusters at every noise level with every reducer, reducer by reducer.

    Parameters
    ----------
    seed
        Seed of the clusters; the reducers have their own.
    reducers
        Name to a function from (n, n_features) float32 to (n, 2), such as a reducer's `fit_transform`.
    noise
        Noise levels, in the order of the panels.
    n_clusters
        Number of clusters.
    points_per_cluster
        Number of points in each.
    n_features
        Number of features.

    Returns
    -------
    list[NoisePanel]
        The panels, reducer by reducer.

    Raises
    ------
    ValueError
        There is no reducer, or one returns another shape than (n, 2).
    """
    if not reducers:
        raise ValueError("reducers={}: at least one")
    panels = []
    for name, embed in reducers.items():
        for level in noise:
            X, labels = blobs(
                seed=seed,
                noise=level,
                n_clusters=n_clusters,
                points_per_cluster=points_per_cluster,
                n_features=n_features,
            )
            points = np.asarray(embed(X), dtype=np.float32)
            if points.shape != (len(X), 2):
                raise ValueError(f"reducer {name!r} returned shape {points.shape} instead of {(len(X), 2)}")
            panels.append(
                NoisePanel(name, level, points, labels, within_share(points, labels), within_share(X, labels))
            )
    return panels


def draw(panels: Sequence[NoisePanel]) -> Figure:
    """Draw the panels: one row per reducer, one column per noise level, one colour and marker per cluster."""
    from matplotlib.figure import Figure

    rows = list(dict.fromkeys(p.reducer for p in panels))
    columns = list(dict.fromkeys(p.noise for p in panels))
    figure = Figure(figsize=(2.3 * len(columns) + 0.4, 2.5 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for panel in panels:
        ax = axes[rows.index(panel.reducer), columns.index(panel.noise)]
        for first in range(0, int(panel.labels.max()) + 1, len(COLOURS)):
            members = (panel.labels >= first) & (panel.labels < first + len(COLOURS))
            ax.scatter(
                *panel.points[members].T,
                c=[COLOURS[label - first] for label in panel.labels[members]],
                marker=MARKERS[first // len(COLOURS) % len(MARKERS)],
                s=5,
                linewidths=0,
                rasterized=True,
            )
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel(f"within clusters: {panel.spread:.1%}", fontsize=8)
        ax.set_title(f"noise {panel.noise:g}", fontsize=9)
    for row, name in enumerate(rows):
        axes[row, 0].set_ylabel(name, fontsize=10)
    return figure
