"""Plain data that components pass to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

NeighbourMetric = Literal["euclidean", "angular"]


@dataclass(frozen=True)
class DataPlaces:
    """Where a dataset may look for its files and keep what it decoded.

    Attributes
    ----------
    folders
        Looked through in this order: `--data-dir`, `$KDBENCH_DATA`, the user cache.
    cache
        a writable folder for decoded arrays.
    download
        Whether fetching over the network may be tried.
    """

    folders: tuple[Path, ...]
    cache: Path
    download: bool = True


@dataclass(frozen=True)
class Split:
    """Images of one split.

    Attributes
    ----------
    images
        uint8, (n, h, w, c), C-contiguous, read-only; may be memory-mapped.
    labels
        int64, (n,), in 0..n_classes-1.
    masks
        Bool, (n, h, w), True on the foreground, read-only; or None.
    """

    images: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None


@dataclass(frozen=True)
class ImageData:
    """A dataset in memory.

    Attributes
    ----------
    train
        The splits.
    test
        The splits.
    class_names
        One a class.
    superclass_of
        int64, (n_classes,), the superclass of each class, or None.
    superclass_names
        One a superclass; () without superclasses.
    digest
        Hex SHA-256 of images, labels and superclasses; part of every key.
    source
        Where the files came from, for people ("generated", a folder).
    """

    train: Split
    test: Split
    class_names: tuple[str, ...]
    superclass_of: np.ndarray | None
    superclass_names: tuple[str, ...]
    digest: str
    source: str = ""

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(h, w, c)."""
        h, w, c = self.train.images.shape[1:]
        return int(h), int(w), int(c)


@dataclass(frozen=True)
class Normalization:
    """Per-channel mean and standard deviation of pixels scaled to 0..1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Neighbours:
    """Exact nearest neighbours of every row among all rows, nearest first, without the row itself.

    Attributes
    ----------
    indices
        int32, (n, k).
    distances
        float32, (n, k). Euclidean distance; or, for "angular", sqrt(2 - 2 cos), which is what Annoy calls angular.
    metric
        "euclidean" or "angular".
    """

    indices: np.ndarray
    distances: np.ndarray
    metric: NeighbourMetric

    @property
    def k(self) -> int:
        return int(self.indices.shape[1])

    def first(self, k: int) -> Neighbours:
        """The nearest `k` of them. Raises ValueError if fewer than `k` are known."""
        if k > self.k:
            raise ValueError(f"{k} neighbours asked for, {self.k} known")
        return Neighbours(self.indices[:, :k], self.distances[:, :k], self.metric)


@dataclass(frozen=True)
class Embedding:
    """What an embedding stage made of a layer's activations.

    Attributes
    ----------
    points
        float32, (n, d).
    reducer
        The component's name; `params` its resolved parameters.
    n_features
        Dimensions of the layer before the reduction.
    loss_history
        One training loss an epoch, or ().
    diagnostics
        Numbers the reducer reports of its own fit (`diagnostics_`), e.g. a dropout-free loss.
    """

    points: np.ndarray
    reducer: str
    params: Mapping[str, Any]
    n_features: int
    loss_history: tuple[float, ...] = ()
    diagnostics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MetricResult:
    """What a metric returns.

    Attributes
    ----------
    values
        Named scalars; a value that does not exist is left out, never NaN.
    arrays
        Named.
    arrays
        Per point, class or superclass.
    setting
        What the values depend on before anything else ("n=2000, k=15"); rows of different settings are never merged.
    figures
        Named drawings, made with `matplotlib.figure.Figure` rather than pyplot. A name is letters, digits, "-" and
        "_". Kept as SVG and PNG, shown in the report and in the tracking store.
    """

    values: Mapping[str, float]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    setting: str = ""
    figures: Mapping[str, Figure] = field(default_factory=dict)
