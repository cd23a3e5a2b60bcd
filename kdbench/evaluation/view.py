"""What a metric looks through: reads artifacts when asked, and keeps what it read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property

import numpy as np

from kdbench.api.data import Embedding, ImageData, Neighbours
from kdbench.api.neighbours import exact_neighbours
from kdbench.store import Artifact


class ArtifactView:
    """A network, a tap of it or an embedding, from the artifacts of their stages (`kdbench.api.View`).

    Args:
        rows: test rows that the view is of; labels are theirs.
        network: artifact of a teacher or student. features, embedding, neighbours: where the view has them.
        reducers: by label, for a metric that runs them.
        teacher, independent_teacher: other networks on the same rows. head: reads the last linear layer.
        needs: what the metric's spec needs, from `kdbench.api.specs.METRIC_NEEDS`.
    """

    def __init__(
        self,
        data: ImageData,
        rows: np.ndarray,
        *,
        network: Artifact,
        tap: str | None = None,
        features: Artifact | None = None,
        embedding: Artifact | None = None,
        neighbours: Artifact | None = None,
        reducers: Mapping[str, Callable[[np.ndarray], np.ndarray]] | None = None,
        teacher: ArtifactView | None = None,
        independent_teacher: ArtifactView | None = None,
        head: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None,
        needs: Collection[str] = (),
    ) -> None:
        self._data, self._rows = data, rows
        self._network, self._features = network, features
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
        curves = self._network.table("history")
        return {k: [float("nan") if x is None else x for x in v] for k, v in curves.items()}

    @cached_property
    def logits(self) -> np.ndarray:
        logits = self._network.array("test_logits")
        rows = self._network.array("test_rows")
        unseen = int((~np.isin(self._rows, rows)).sum())
        if unseen:
            raise ValueError(
                f"{unseen} of {len(self._rows)} images have no logits: data.embedded is larger than data.test"
            )
        place = np.searchsorted(rows, self._rows)
        return np.asarray(logits[place], dtype=np.float32)

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
        return tuple(self._known_features().record["identity"]["taps"])

    def features_at(self, tap: str) -> np.ndarray:
        if tap not in self.taps:
            raise ValueError(f"no activations at tap {tap!r}; there are {', '.join(self.taps)}")
        return np.asarray(self._known_features().array(tap), dtype=np.float32)

    def _known_features(self) -> Artifact:
        if self._features is None:
            raise RuntimeError(
                'the metric reads features; its spec must need "features", or "teacher_features" of the teacher'
            )
        return self._features

    @property
    def teacher(self) -> ArtifactView:
        if self._teacher is None:
            raise RuntimeError('the metric looks at the teacher; its spec must need "teacher"')
        return self._teacher

    @property
    def independent_teacher(self) -> ArtifactView | None:
        if "independent_teacher" not in self._needs:
            raise RuntimeError(
                'the metric looks at another teacher; its spec must need "independent_teacher"'
            )
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
        return load_embedding(self._embedding)

    @property
    def reducers(self) -> Mapping[str, Callable[[np.ndarray], np.ndarray]]:
        if self._reducers is None:
            raise RuntimeError('the metric runs reducers; its spec must need "reducers"')
        return self._reducers

    def neighbours(self, k: int, metric: str = "euclidean") -> Neighbours:
        if self._neighbours is not None:
            known = load_neighbours(self._neighbours)
            if known.metric == metric and known.k >= k:
                return known.first(k)
        return exact_neighbours(self.features, k, metric)  # type: ignore[arg-type]


def load_embedding(artifact: Artifact) -> Embedding:
    """The embedding that an embedding stage wrote."""
    values = artifact.values
    return Embedding(
        points=np.asarray(artifact.array("points")),
        reducer=values["reducer"],
        params=values["params"],
        n_features=values["n_features"],
        loss_history=tuple(values["loss_history"]),
        diagnostics=values["diagnostics"],
    )


def load_neighbours(artifact: Artifact) -> Neighbours:
    """The neighbours that a neighbours stage wrote."""
    return Neighbours(
        np.asarray(artifact.array("indices")),
        np.asarray(artifact.array("distances")),
        artifact.values["metric"],
    )
