"""A workbench for metrics: a network as good as one can be, one that knows nothing, and views of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from kdbench.api.data import Embedding, MetricResult, Neighbours
from kdbench.api.neighbours import exact_neighbours
from kdbench.api.specs import MetricSpec
from kdbench.testing.outcome import Violation

if TYPE_CHECKING:
    from kdbench.registry import Component, Registry

N, CLASSES, GROUPS, FEATURES = 120, 6, 3, 8


@dataclass(frozen=True)
class Scene:
    """Arrays of one network, and what is derived from them: a view of everything (`kdbench.api.View`).

    What `needs` does not name is refused, as the engine does; None: nothing is.
    """

    labels: np.ndarray
    logits: np.ndarray
    features: np.ndarray
    points: np.ndarray
    losses: tuple[float, ...]
    weight: np.ndarray
    accuracy: float
    superclass_of: np.ndarray | None
    masks: np.ndarray
    of_teacher: Scene | None = None
    independent: Scene | None = None
    needs: frozenset[str] | None = None
    tap: str | None = "E"
    class_names: tuple[str, ...] = tuple(f"class {c}" for c in range(CLASSES))
    superclass_names: tuple[str, ...] = tuple(f"superclass {g}" for g in range(GROUPS))

    def view(self) -> SceneView:
        return SceneView(self)


class SceneView:
    """A view of a scene."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.tap, self.labels = scene.tap, scene.labels
        self.superclass_of = scene.superclass_of
        self.class_names = scene.class_names
        self.superclass_names = scene.superclass_names if scene.superclass_of is not None else ()

    def _ask(self, *needs: str) -> None:
        """Refuses what none of `needs` entitles to."""
        declared = self._scene.needs
        if declared is not None and not declared & set(needs):
            raise Violation(f'it reads {needs[0].replace("_", " ")}, and its spec does not need "{needs[0]}"')

    @property
    def history(self) -> Mapping[str, list[float]]:
        last = self._scene.accuracy
        curve = [0.5 * last, 0.9 * last, last]
        return {"loss": [2.0, 1.0, 0.5], "test_accuracy": curve, "validation_accuracy": list(curve)}

    @property
    def logits(self) -> np.ndarray:
        return self._scene.logits

    @property
    def masks(self) -> np.ndarray:
        self._ask("masks")
        return self._scene.masks

    @property
    def features(self) -> np.ndarray:
        self._ask("features", "neighbours", "teacher_features")
        return self._scene.features

    @property
    def taps(self) -> tuple[str, ...]:
        self._ask("features", "neighbours", "teacher_features")
        return ("D", "E")

    def features_at(self, tap: str) -> np.ndarray:
        self._ask("features", "neighbours", "teacher_features")
        if tap not in self.taps:
            raise ValueError(f"no activations at tap {tap!r}")
        return self._scene.features if tap == "E" else np.maximum(self._scene.features, 0)

    @property
    def embedding(self) -> Embedding:
        self._ask("embedding", "loss_history")
        return Embedding(self._scene.points, "bench", {"k": 15}, FEATURES, self._scene.losses)

    @property
    def reducers(self) -> Mapping[str, Callable[[np.ndarray], np.ndarray]]:
        self._ask("reducers")
        return {"first two": lambda X: X[:, :2].copy(), "sums": lambda X: np.stack([X.sum(1), X[:, 0]], 1)}

    @property
    def teacher(self) -> SceneView:
        self._ask("teacher", "teacher_features", "independent_teacher")
        assert self._scene.of_teacher is not None
        return self._scene.of_teacher.view()

    @property
    def independent_teacher(self) -> SceneView | None:
        self._ask("independent_teacher")
        return None if self._scene.independent is None else self._scene.independent.view()

    @property
    def head(self) -> tuple[np.ndarray, np.ndarray]:
        self._ask("head")
        return self._scene.weight, np.zeros(len(self._scene.weight), np.float32)

    def neighbours(self, k: int, metric: str = "euclidean") -> Neighbours:
        self._ask("neighbours", "features")
        return exact_neighbours(self._scene.features, k, cast(Any, metric))


@dataclass(frozen=True)
class MetricBench:
    """One metric with one set of parameters, and scenes: 120 images of six classes in three superclasses.

    Args:
        name: of a metric of the registry. params: where the defaults do not do.
    """

    name: str
    registry: Registry
    params: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def spec(self) -> MetricSpec:
        return cast(MetricSpec, self.registry.spec("metrics", self.name))

    @cached_property
    def component(self) -> Component:
        return self.registry.resolve("metrics", self.name)

    @cached_property
    def best(self) -> MetricResult:
        """What it says of the good network."""
        return self.measure(good())

    @cached_property
    def worst(self) -> MetricResult:
        """What it says of the one that knows nothing."""
        return self.measure(bad())

    def metric(self) -> Any:
        return self.registry.create("metrics", self.name, dict(self.params))

    def measure(self, scene: Scene) -> MetricResult:
        """A new instance's result.

        Raises:
            Violation: it is no MetricResult.
        """
        found = self.metric()(scene.view())
        if not isinstance(found, MetricResult):
            raise Violation(f"it returned {type(found).__name__}; a kdbench.api.MetricResult is expected")
        return found


def good(seed: int = 0) -> Scene:
    """Clusters by class, those of a superclass side by side, in features, embedding and logits; sure and right, but
    for some errors inside the superclass; like its teacher."""
    return _network(seed, signal=1.0)


def bad(seed: int = 1) -> Scene:
    """Features, embedding and logits that have nothing to do with the labels nor with each other; sure and wrong;
    unlike its teacher."""
    scene = _network(seed, signal=0.0)
    return dataclasses.replace(scene, of_teacher=_network(0, signal=1.0, alone=True))


def _network(seed: int, *, signal: float, alone: bool = False) -> Scene:
    rng = np.random.default_rng([20211109, seed])
    labels = np.arange(N, dtype=np.int64) % CLASSES
    groups = np.arange(CLASSES, dtype=np.int64) // (CLASSES // GROUPS)
    turn = 2 * np.pi * (np.arange(CLASSES) + 0.25 * (-1.0) ** np.arange(CLASSES)) / CLASSES
    centres = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    plane = 5 * signal * centres[labels] + rng.standard_normal((N, 2)) * (0.4 if signal else 1.0)
    into, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((FEATURES, FEATURES)))
    features = plane @ into[:2] + 0.1 * rng.standard_normal((N, FEATURES))
    points = plane if signal else rng.standard_normal((N, 2)) * 3
    weight = 2.0 * centres @ into[:2]
    logits = rng.standard_normal((N, CLASSES)) * (0.5 if signal else 6.0)
    if signal:
        # sibling classes have logits that go together; every twelfth image is taken for its sibling
        alike = (groups[labels][:, None] == groups) * (4.0 + rng.standard_normal((N, 1)))
        chosen = np.where(np.arange(N) % 12 == 5, labels ^ 1, labels)
        logits = logits + alike + 3.0 * (chosen[:, None] == np.arange(CLASSES))
    else:
        logits[np.arange(N), labels] -= 3.0
    right = float(np.mean(logits.argmax(1) == labels))
    losses = tuple((0.2 if signal else 0.9) + 0.5 / (e + 1) for e in range(5))
    masks = np.zeros((N, 8, 8), bool)
    masks[:, 2:6, 2:6] = True
    scene = Scene(
        labels=labels,
        logits=logits.astype(np.float32),
        features=features.astype(np.float32),
        points=points.astype(np.float32),
        losses=losses,
        weight=weight.astype(np.float32),
        accuracy=right,
        superclass_of=groups,
        masks=masks,
    )
    if alone:
        return scene
    other = _network(seed + 7, signal=signal, alone=True)
    near = dataclasses.replace(
        scene, logits=(scene.logits + 0.1 * rng.standard_normal(scene.logits.shape)).astype(np.float32)
    )
    return dataclasses.replace(scene, of_teacher=near, independent=other)
