"""Fields of a stage, by kind: what its result depends on, and what it needs at run time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from kdbench.api.data import ImageData
from kdbench.api.draws import Fold, draw_fold, draw_test, draw_train
from kdbench.api.settings import ComponentSettings, Value

#: A field with this is left out of keys if it is None.
OPTIONAL = {"optional": True}


@dataclass(frozen=True)
class Reference:
    """How to create a component: its name, and its parameters as they were given, paths included."""

    name: str
    params: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """A balanced draw of images: their number or "all", and the seed."""

    size: int | Literal["all"]
    seed: int

    def test(self, data: ImageData) -> np.ndarray:
        """Rows (n,) of the test split."""
        return draw_test(data.test.labels, data.n_classes, size=self.size, seed=self.seed)

    def train(self, data: ImageData) -> np.ndarray:
        """Rows (n,) of the training split."""
        return draw_train(data.train.labels, data.n_classes, train=self.size, seed=self.seed)


@dataclass(frozen=True)
class Draw:
    """The images of a fold; `unlabelled` is None if none are used."""

    budget: int
    fold: int
    seed: int
    train: int | str
    validation: int
    unlabelled: int | str | None = field(default=None, metadata=OPTIONAL)

    def of(self, data: ImageData) -> Fold:
        """The images."""
        arguments: dict[str, Any] = dataclasses.asdict(self)
        if self.unlabelled is None:
            del arguments["unlabelled"]
        return draw_fold(np.asarray(data.train.labels), data.n_classes, **arguments)


@dataclass(frozen=True)
class SourceFields:
    """A network trained on a source task."""

    data: str
    network: ComponentSettings
    recipe: Mapping[str, Value]
    seed: int


@dataclass(frozen=True)
class BackboneFields:
    """Features of a frozen network."""

    dataset: str
    network: ComponentSettings
    train: Rows
    test: Rows
    flip: bool
    precision: str
    seed: int


@dataclass(frozen=True)
class TeacherFields:
    """A teacher."""

    dataset: str
    draw: Draw
    network: ComponentSettings
    mode: str
    recipe: Mapping[str, Value]
    test: Rows
    seed: int


@dataclass(frozen=True)
class StudentFields:
    """A network trained by a scheme."""

    dataset: str
    draw: Draw
    network: ComponentSettings
    scheme: ComponentSettings
    recipe: Mapping[str, Value]
    test: Rows
    seed: int


@dataclass(frozen=True)
class TargetsFields:
    """A teacher's outputs; with `shift` they are computed as students ask for them."""

    dataset: str
    draw: Draw
    flip: bool
    precision: str
    shift: int | None = field(default=None, metadata=OPTIONAL)
    shift_fill: str | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class FeaturesFields:
    """Activations at taps."""

    dataset: str
    taps: tuple[str, ...]
    test: Rows


@dataclass(frozen=True)
class NeighboursFields:
    """Exact neighbours at a tap."""

    tap: str
    metric: str
    k: int


@dataclass(frozen=True)
class EmbeddingFields:
    """An embedding of a tap."""

    tap: str
    reducer: ComponentSettings
    seed: int


@dataclass(frozen=True)
class ScoreFields:
    """A metric of a network, a tap or an embedding; `reducers` and `seed` if it runs reducers itself."""

    dataset: str
    metric: ComponentSettings
    tap: str | None
    test: Rows
    reducers: tuple[tuple[str, ComponentSettings], ...] | None = field(default=None, metadata=OPTIONAL)
    seed: int | None = field(default=None, metadata=OPTIONAL)


Fields: TypeAlias = (
    SourceFields
    | BackboneFields
    | TeacherFields
    | StudentFields
    | TargetsFields
    | FeaturesFields
    | NeighboursFields
    | EmbeddingFields
    | ScoreFields
)


@dataclass(frozen=True)
class Runtime:
    """What a stage needs to run and its result does not depend on: how to create its components.

    Attributes
    ----------
    dataset
        The dataset.
    network
        Architectures of the network that the stage is about, and of its teacher.
    teacher_network
        Architectures of the network that the stage is about, and of its teacher.
    scheme
        The component that does the work.
    reducer
        The component that does the work.
    metric
        The component that does the work.
    reducers
        By label, the reducers that a metric runs itself.
    """

    dataset: Reference | None = None
    network: Reference | None = None
    teacher_network: Reference | None = None
    scheme: Reference | None = None
    reducer: Reference | None = None
    metric: Reference | None = None
    reducers: tuple[tuple[str, Reference], ...] = ()


def key_json(value: Any) -> Any:
    """Fields as the plain data that is hashed into a key and kept in the record of an artifact."""
    if isinstance(value, ComponentSettings):
        source = {"source": value.source} if value.source else {}
        return {"name": value.name, "version": value.version, **source, "params": key_json(value.params)}
    if dataclasses.is_dataclass(value):
        return {
            f.name: key_json(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if not (f.metadata.get("optional") and getattr(value, f.name) is None)
        }
    if isinstance(value, Mapping):
        return {name: key_json(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [key_json(v) for v in value]
    return value
