"""Settings of an experiment: made by the plan, stored in records, compared by leaderboards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, TypeAlias


class Unknown(Enum):
    """Stands for a setting that a suite alone does not decide: the machine's precision, the digest of its data."""

    UNKNOWN = "unknown"


UNKNOWN = Unknown.UNKNOWN

#: A parameter: what JSON can hold, or `UNKNOWN`.
Value: TypeAlias = Any
#: Dotted names to values: "student.epochs": 200.
Flat: TypeAlias = dict[str, Value]
#: Names and values as text: equal for equal settings, and hashable.
Fingerprint: TypeAlias = frozenset[tuple[str, str]]

#: Parameters of a component that say how it is executed, not what it computes.
EXECUTION_PARAMETERS = frozenset({"n_jobs", "device", "workers"})


@dataclass(frozen=True)
class ComponentSettings:
    """A component with all its parameters, and which code it is.

    Attributes
    ----------
    name
        Name of the component.
    params
        All parameters, defaults included. A file stands as the digest of its content.
    version
        Version of the component's spec.
    source
        Digest of the file of a one-file plugin; "" for an installed one.
    """

    name: str
    params: Mapping[str, Value] = field(default_factory=dict)
    version: int | str = 1
    source: str = ""

    def flat(self, prefix: str) -> Flat:
        """Parameters and code as "<prefix>.<name>"."""
        flat = {
            f"{prefix}.{name}": value
            for name, value in self.params.items()
            if name not in EXECUTION_PARAMETERS
        }
        flat[f"{prefix}.version" if "version" not in self.params else f"{prefix}.code_version"] = self.version
        if self.source:
            flat[f"{prefix}.source" if "source" not in self.params else f"{prefix}.code_source"] = self.source
        return flat


@dataclass(frozen=True)
class DatasetSettings:
    """A dataset: its title, its parameters but for those that name files, and the digest of its content."""

    title: str
    params: Mapping[str, Value] = field(default_factory=dict)
    digest: str | Unknown = UNKNOWN

    def flat(self, prefix: str) -> Flat:
        """The title as "<prefix>.dataset", its parameters below it, and the digest."""
        params = {f"{prefix}.dataset.{name}": value for name, value in self.params.items()}
        return {f"{prefix}.dataset": self.title, **params, f"{prefix}.digest": self.digest}


@dataclass(frozen=True)
class DataSettings:
    """Which images are used for what.

    Attributes
    ----------
    dataset
        The dataset.
    train
        Numbers of images, or "all".
    test
        Numbers of images, or "all".
    embedded
        Numbers of images, or "all".
    validation
        Number of training images held out.
    unlabelled
        Number of unlabelled images; None if the scheme uses none.
    """

    dataset: DatasetSettings
    train: int | str
    test: int | str
    embedded: int | str
    validation: int
    unlabelled: int | Unknown | None = None


@dataclass(frozen=True)
class SourceSettings:
    """The task that a teacher is pretrained on."""

    dataset: DatasetSettings
    recipe: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class NetworkSettings:
    """A network and how it is trained.

    Attributes
    ----------
    architecture
        The network.
    recipe
        Fields of the training recipe by name.
    mode
        Of a teacher: which weights are trained; "" for a student.
    source
        Of a teacher: the task it is pretrained on, if any.
    pretraining
        Of a teacher: the scheme it is pretrained by, if any.
    """

    architecture: ComponentSettings
    recipe: Mapping[str, Value] = field(default_factory=dict)
    mode: str = ""
    source: SourceSettings | None = None
    pretraining: ComponentSettings | None = None

    def flat(self, prefix: str) -> Flat:
        """All of it as "<prefix>.<name>"."""
        flat: Flat = {f"{prefix}.architecture": self.architecture.name}
        flat |= self.architecture.flat(f"{prefix}.architecture")
        flat |= {f"{prefix}.{name}": value for name, value in self.recipe.items()}
        if self.mode:
            flat[f"{prefix}.mode"] = self.mode
            flat[f"{prefix}.source.dataset"] = None
        if self.source is not None:
            flat |= self.source.dataset.flat(f"{prefix}.source")
            flat |= {f"{prefix}.source.{name}": value for name, value in self.source.recipe.items()}
        if self.pretraining is not None:
            flat[f"{prefix}.pretraining"] = self.pretraining.name
            flat |= self.pretraining.flat(f"{prefix}.pretraining")
        return flat


@dataclass(frozen=True)
class MetricSettings:
    """A metric and everything else that its values depend on.

    Attributes
    ----------
    component
        The metric.
    teacher
        The teacher that it compares with, if it compares with one.
    reducers
        By label, the reducers that it runs itself.
    stages
        Versions of the kinds of stages that it needs beyond the training.
    """

    component: ComponentSettings
    teacher: NetworkSettings | None = None
    reducers: Mapping[str, ComponentSettings] = field(default_factory=dict)
    stages: Mapping[str, int] = field(default_factory=dict)

    def flat(self, prefix: str) -> Flat:
        """All of it as "<prefix>.<name>"."""
        flat = self.component.flat(prefix)
        if self.teacher is not None:
            flat |= self.teacher.flat(f"{prefix}.teacher")
        for label, reducer in self.reducers.items():
            flat |= reducer.flat(f"{prefix}.reducers.{label}")
        return flat | {f"{prefix}.stages.{kind}": version for kind, version in self.stages.items()}


@dataclass(frozen=True)
class Settings:
    """What an experiment was set to, for one scheme and budget.

    Two experiments are the same if `training` is. `shared` is what the students of all schemes have in common,
    `specific` what a scheme adds, `budget_bound` what follows from the budget.

    Attributes
    ----------
    data
        Which images are used.
    student
        The student; None for a teacher's own cell.
    scheme
        The scheme; None for a teacher's own cell.
    teacher
        The teacher, if the scheme uses one.
    own_teacher
        Whether the teacher belongs to the scheme and is not the suite's.
    reducers
        By label, the reducers that embeddings were made with.
    metrics
        By label, the metrics.
    stages
        Versions of the kinds of stages that the training needs, where they are not 1.
    """

    data: DataSettings
    student: NetworkSettings | None = None
    scheme: ComponentSettings | None = None
    teacher: NetworkSettings | None = None
    own_teacher: bool = False
    reducers: Mapping[str, ComponentSettings] = field(default_factory=dict)
    metrics: Mapping[str, MetricSettings] = field(default_factory=dict)
    stages: Mapping[str, int] = field(default_factory=dict)

    # -- parts, as dotted names

    @cached_property
    def data_part(self) -> Flat:
        """The data, without what follows from the budget."""
        data = self.data
        numbers = {name: getattr(data, name) for name in ("train", "test", "embedded", "validation")}
        return data.dataset.flat("data") | {f"data.{name}": value for name, value in numbers.items()}

    @cached_property
    def student_part(self) -> Flat:
        """The student's network and recipe; {} for a teacher's own cell."""
        return self.student.flat("student") if self.student is not None else {}

    @cached_property
    def teacher_part(self) -> Flat:
        """The teacher, as "teacher" if it is the suite's, else as "own_teacher"; {} without one."""
        name = "own_teacher" if self.own_teacher else "teacher"
        return self.teacher.flat(name) if self.teacher is not None else {}

    @cached_property
    def scheme_part(self) -> Flat:
        """The scheme's parameters; {} for a teacher's own cell."""
        return self.scheme.flat("scheme") if self.scheme is not None else {}

    @cached_property
    def shared(self) -> Flat:
        """What the students of all schemes of a suite have in common."""
        return self.data_part | self.student_part

    @cached_property
    def specific(self) -> Flat:
        """What a scheme adds: its parameters, its teacher, the versions of its stages."""
        stages = {f"stages.{kind}": version for kind, version in self.stages.items()}
        return self.scheme_part | self.teacher_part | stages

    @cached_property
    def budget_bound(self) -> Flat:
        """What follows from the budget."""
        return {} if self.data.unlabelled is None else {"data.unlabelled": self.data.unlabelled}

    @cached_property
    def training(self) -> Flat:
        """Everything that a trained network depends on."""
        return self.shared | self.specific | self.budget_bound

    def measuring(self, metric: str, reducer: str | None) -> Flat:
        """What a metric's value depends on beyond the network.

        Parameters
        ----------
        metric
            Label of the metric.
        reducer
            Label of the reducer, None if no embedding is involved.

        Returns
        -------
        dict
            Dotted names to values; empty for a value that belongs to no metric of the suite.
        """
        flat = self.metrics[metric].flat(f"metrics.{metric}") if metric in self.metrics else {}
        if reducer is not None and reducer in self.reducers:
            flat |= self.reducers[reducer].flat(f"reducers.{reducer}")
        return flat

    def flat(self) -> Flat:
        """Everything, as dotted names."""
        flat = dict(self.training)
        for label, reducer in self.reducers.items():
            flat |= reducer.flat(f"reducers.{label}")
        for label, metric in self.metrics.items():
            flat |= metric.flat(f"metrics.{label}")
        return flat

    # -- JSON

    def to_json(self) -> dict[str, Any]:
        """Plain data; see `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Settings:
        """Settings from plain data.

        Parameters
        ----------
        data
            What `to_json` returned.

        Returns
        -------
        Settings
            Equal to those that were written.

        Raises
        ------
        TypeError, KeyError
            The data are not those of settings.
        """
        return cls(
            data=DataSettings(**{**data["data"], "dataset": DatasetSettings(**data["data"]["dataset"])}),
            student=_network(data["student"]),
            scheme=_component(data["scheme"]),
            teacher=_network(data["teacher"]),
            own_teacher=data["own_teacher"],
            reducers={label: ComponentSettings(**c) for label, c in data["reducers"].items()},
            metrics={label: _metric(m) for label, m in data["metrics"].items()},
            stages=data["stages"],
        )


def _component(data: Mapping[str, Any] | None) -> ComponentSettings | None:
    return None if data is None else ComponentSettings(**data)


def _network(data: Mapping[str, Any] | None) -> NetworkSettings | None:
    if data is None:
        return None
    source = data["source"]
    return NetworkSettings(
        ComponentSettings(**data["architecture"]),
        data["recipe"],
        data["mode"],
        None if source is None else SourceSettings(DatasetSettings(**source["dataset"]), source["recipe"]),
        _component(data["pretraining"]),
    )


def _metric(data: Mapping[str, Any]) -> MetricSettings:
    return MetricSettings(
        ComponentSettings(**data["component"]),
        _network(data["teacher"]),
        {label: ComponentSettings(**c) for label, c in data["reducers"].items()},
        data["stages"],
    )


# -- comparing


def text_of(value: Value) -> str:
    """A value as text; None is "none"."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def fingerprint(flat: Mapping[str, Value]) -> Fingerprint:
    """Names and values as text."""
    return frozenset((name, text_of(value)) for name, value in flat.items())


def difference(found: Mapping[str, Value], expected: Mapping[str, Value]) -> dict[str, tuple[str, str]]:
    """What two settings differ in.

    What is unknown on either side is not compared. A file whose digest is on record is not compared with the name
    of a file that is not here.

    Parameters
    ----------
    found
        Dotted names to values.
    expected
        Dotted names to values.

    Returns
    -------
    dict
        Name to both values as text, "none" for a setting that one side does not have.
    """
    differing = {}
    for name in dict.fromkeys((*found, *expected)):
        ours, theirs = found.get(name, "none"), expected.get(name, "none")
        if UNKNOWN in (ours, theirs) or _equal(text_of(ours), text_of(theirs)):
            continue
        if _is_digest(ours) and name in expected and not _is_digest(theirs):
            continue
        differing[name] = (text_of(ours), text_of(theirs))
    return differing


def _equal(one: str, other: str) -> bool:
    """Whether two values are equal; 4 and 4.0 are one number."""
    try:
        return one == other or float(one) == float(other)
    except ValueError:
        return False


def unexplained(names: Iterable[str]) -> list[str]:
    """The names without titles and digests of datasets whose parameters are among the names too."""
    names = list(names)
    datasets = {name.partition(".dataset.")[0] for name in names if ".dataset." in name}
    explained = {f"{prefix}.{name}" for prefix in datasets for name in ("dataset", "digest")}
    return [name for name in names if name not in explained]


#: How the digest of a file begins that stands in place of the file's name.
FILE_DIGEST = "sha256:"


def _is_digest(value: Value) -> bool:
    return isinstance(value, str) and value.startswith(FILE_DIGEST)
