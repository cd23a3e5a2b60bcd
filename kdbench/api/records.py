"""Records: what a run leaves behind, and what observers, tracking and leaderboards read. JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

#: Raised when the layout of records changes.
RECORD_VERSION = 1


@dataclass(frozen=True)
class Result:
    """One number of a cell.

    Attributes:
        metric: component name; `value_name`: which of its values ("r", "last", "accuracy").
        value: the number.
        tap: the tap's name, None for a metric of the whole network.
        reducer: label of the reducer, None where no embedding is involved. The label is the component's name,
            followed by its non-default parameters in brackets where the suite sets any.
        setting: what the number depends on before anything else ("n=2000, k=15").
        primary: whether the metric ranks by this value.
    """

    metric: str
    value_name: str
    value: float
    tap: str | None = None
    reducer: str | None = None
    setting: str = ""
    primary: bool = False


def measurement(metric: str, tap: str | None, reducer: str | None) -> str:
    """How a record names what was measured: "<tap>/<reducer>/<metric>", without the parts that there are not."""
    return "/".join(p for p in (tap, reducer, metric) if p)


@dataclass(frozen=True)
class CellRecord:
    """dataset x budget x fold x scheme, with all that was measured. A teacher is a cell with scheme "teacher".

    Attributes:
        key: content key: the same work has the same key, wherever and whenever it ran.
        budget: labelled images, over all classes. fold: 0-based.
        scheme: the row's label (component name, and its non-default parameters where the suite sets any);
            "teacher" for teachers.
        student, teacher: labels of the networks; teacher "" where none is used; for a teacher's own cell
            `student` is "" and `teacher` the network.
        status: "finished" or "failed".
        params: resolved parameters, flat ("student.epochs": 200).
        history: curves by epoch ("test_accuracy": [...]).
        stages: stage title to key. seconds: of the work, wherever it was done.
        hardware: {"device", "cpu", "cores", "precision", ...} of the training; "label" is the short name for tables.
        versions: distributions and plugins that it was trained with. git_commit: of the working folder, "" outside
            a repository.
        arrays: paths below the store: "<tap>/<reducer>/<metric>.<name>" to a file.
        figures: drawings of metrics, likewise, each to its SVG; a PNG of the same name lies beside it.
        origins: of measurements that rest on another machine or version than the training,
            "<tap>/<reducer>/<metric>" to {"hardware": labels, "kdbench": versions}, "; " between those that the
            network was trained, embedded and measured with, in this order; of an embedding's time its own alone.
        error: the traceback of a failed cell.
        created: when its last stage was done, in seconds since the epoch.
    """

    key: str
    suite: str
    scale: str
    dataset: str
    dataset_digest: str
    budget: int
    fold: int
    scheme: str
    student: str
    teacher: str
    status: Literal["finished", "failed"]
    seed: int = 0
    results: tuple[Result, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    history: Mapping[str, list[float]] = field(default_factory=dict)
    stages: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    hardware: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    git_commit: str = ""
    arrays: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    error: str = ""
    created: float = 0.0
    record_version: int = RECORD_VERSION

    def to_json(self) -> dict[str, Any]:
        """As `dataclasses.asdict` gives it, but for what lies deeper in mappings, which is not copied."""
        data = {name: dict(v) if isinstance(v, Mapping) else v for name, v in vars(self).items()}
        data["results"] = tuple(dict(vars(r)) for r in self.results)
        return data

    @property
    def tells_code(self) -> bool:
        """Whether its parameters say which code it is of, as those of older records do not."""
        return any("@" in name for name in self.params)

    def origin(self, metric: str, tap: str | None = None, reducer: str | None = None) -> dict[str, str]:
        """{"hardware", "kdbench"} that a measurement came from: the training's, but for those in `origins`."""
        own = {
            "hardware": str(self.hardware.get("label") or self.hardware.get("device") or ""),
            "kdbench": self.versions.get("kdbench", ""),
        }
        return own | dict(self.origins.get(measurement(metric, tap, reducer), {})) if self.origins else own

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CellRecord:
        fields = dict(data)
        fields["results"] = tuple(Result(**r) for r in fields.get("results", ()))
        return cls(**fields)


@dataclass(frozen=True)
class Outcome:
    """How the execution of a stage ended.

    Attributes:
        key: the stage's.
        status: "cached" where another run had finished it meanwhile.
        error: a traceback, "" where it did not fail.
    """

    key: str
    status: Literal["finished", "cached", "failed"]
    seconds: float = 0.0
    error: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class StageSummary:
    """One stage of a plan: its kind, key and title, and how it ended."""

    key: str
    kind: str
    title: str
    status: Literal["finished", "cached", "failed", "skipped"]
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class RunSummary:
    """One invocation of `kdbench run`.

    Attributes:
        id: unique, sortable by time ("20261121-101500-ab12cd").
        suite_text: the resolved suite as TOML-like JSON, for the tracking store.
        published, claims, assumptions: as in the suite file.
    """

    id: str
    suite: str
    scale: str
    seed: int
    stages: int
    cells: int
    workspace: str
    suite_config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    git_commit: str = ""
    status: Literal["running", "finished", "failed", "interrupted"] = "running"
