"""Views that metrics read: a network, a tap or an embedding (`kdbench.api.View`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Protocol

import numpy as np

from kdbench.api.data import Embedding, ImageData, Neighbours
from kdbench.api.neighbours import exact_neighbours


class NetworkData(Protocol):
    """What was computed of a network; read when a metric asks for it."""

    def history(self) -> Mapping[str, list[float | None]]:
        """Curves by epoch."""

    def logits(self) -> tuple[np.ndarray, np.ndarray]:
        """Logits (n, n_classes) and the sorted test rows (n,) that they are of."""

    def taps(self) -> tuple[str, ...]:
        """Taps that there are features of; () if there are none."""

    def features(self, tap: str) -> np.ndarray:
        """Features (n, d) of the rows of the view."""


class MetricView:
    """A network, a tap of it or an embedding.

    Parameters
    ----------
    data
        The dataset.
    rows
        Test rows (n,) of the view; labels are theirs.
    network
        What was computed of the network.
    tap
        The tap, None for a metric of the whole network.
    embedding
        Reads the embedding, if the metric needs one.
    neighbours
        Reads exact neighbours at the tap, if there are any.
    reducers
        By label, functions from features to points, for a metric that runs reducers.
    teacher
        Other networks on the same rows.
    independent_teacher
        Other networks on the same rows.
    head
        Reads weight and bias of the last linear layer.
    needs
        What the metric's spec needs, from `kdbench.api.specs.METRIC_NEEDS`.
    """

    def __init__(
        self,
        data: ImageData,
        rows: np.ndarray,
        network: NetworkData,
        *,
        tap: str | None = None,
        embedding: Callable[[], Embedding] | None = None,
        neighbours: Callable[[], Neighbours] | None = None,
        reducers: Mapping[str, Callable[[np.ndarray], np.ndarray]] | None = None,
        teacher: MetricView | None = None,
        independent_teacher: MetricView | None = None,
        head: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None,
        needs: Collection[str] = (),
    ) -> None:
        self._data, self._rows, self._network = data, rows, network
        self._embedding, self._neighbours = embedding, neighbours
        self._reducers = reducers
        self._teacher, self._independent_teacher = teacher, independent_teacher
        self._head, self._needs = head, frozenset(needs)
        self.tap = tap
        self.labels = np.asarray(data.test.labels)[rows]
        self.superclass_of = data.superclass_of
        self.class_names, self.superclass_names = data.class_names, data.superclass_names

    @cached_property
    def history(self) -> Mapping[str, list[float]]:
        curves = self._network.history()
        return {k: [float("nan") if x is None else x for x in v] for k, v in curves.items()}

    @cached_property
    def logits(self) -> np.ndarray:
        logits, rows = self._network.logits()
        unseen = int((~np.isin(self._rows, rows)).sum())
        if unseen:
            raise ValueError(
                f"{unseen} of {len(self._rows)} images have no logits: data.embedded is larger than data.test"
            )
        return np.asarray(logits[np.searchsorted(rows, self._rows)], dtype=np.float32)

    @cached_property
    def masks(self) -> np.ndarray | None:
        return None if self._data.test.masks is None else np.asarray(self._data.test.masks[self._rows])

    @cached_property
    def features(self) -> np.ndarray:
        if self.tap is None:
            raise RuntimeError('the metric reads features; its spec must need "features"')
        return self.features_at(self.tap)

    @property
    def taps(self) -> tuple[str, ...]:
        taps = self._network.taps()
        if not taps:
            raise RuntimeError(
                'the metric reads features; its spec must need "features", or "teacher_features" of the teacher'
            )
        return taps

    def features_at(self, tap: str) -> np.ndarray:
        if tap not in self.taps:
            raise ValueError(f"no features at tap {tap!r}; there are {', '.join(self.taps)}")
        return np.asarray(self._network.features(tap), dtype=np.float32)

    @property
    def teacher(self) -> MetricView:
        if self._teacher is None:
            raise RuntimeError('the metric reads the teacher; its spec must need "teacher"')
        return self._teacher

    @property
    def independent_teacher(self) -> MetricView | None:
        if "independent_teacher" not in self._needs:
            raise RuntimeError('the metric reads another teacher; its spec must need "independent_teacher"')
        return self._independent_teacher

    @cached_property
    def head(self) -> tuple[np.ndarray, np.ndarray]:
        if self._head is None:
            raise RuntimeError('the metric reads the last layer; its spec must need "head"')
        return self._head()

    @cached_property
    def embedding(self) -> Embedding:
        if self._embedding is None:
            raise RuntimeError('the metric reads an embedding; its spec must need "embedding"')
        return self._embedding()

    @property
    def reducers(self) -> Mapping[str, Callable[[np.ndarray], np.ndarray]]:
        if self._reducers is None:
            raise RuntimeError('the metric runs reducers; its spec must need "reducers"')
        return self._reducers

    def neighbours(self, k: int, metric: str = "euclidean") -> Neighbours:
        if self._neighbours is not None:
            known = self._neighbours()
            if known.metric == metric and known.k >= k:
                return known.first(k)
        return exact_neighbours(self.features, k, metric)  # type: ignore[arg-type]
