"""Records of stages, cells and runs, read by observers, tracking and leaderboards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kdbench.api.settings import Settings
from kdbench.errors import WorkspaceError

#: Raised when the layout of records changes; records of another version are refused.
RECORD_VERSION = 2


@dataclass(frozen=True)
class Result:
    """One number of a cell.

    Attributes
    ----------
    metric
        Label of the metric.
    value_name
        Which of its values: "r", "last", "accuracy".
    value
        The number.
    tap
        Name of the tap; None for a metric of the whole network.
    reducer
        Label of the reducer; None if no embedding is involved.
    setting
        What the number depends on first of all: "n=2000, k=15".
    primary
        Whether the metric ranks by this value.
    """

    metric: str
    value_name: str
    value: float
    tap: str | None = None
    reducer: str | None = None
    setting: str = ""
    primary: bool = False


def measurement(metric: str, tap: str | None, reducer: str | None) -> str:
    """Name of a measurement in a record: "<tap>/<reducer>/<metric>", without the parts that do not apply."""
    return "/".join(p for p in (tap, reducer, metric) if p)


@dataclass(frozen=True)
class CellRecord:
    """Dataset x budget x fold x scheme, with everything that was measured. A teacher is a cell with scheme "teacher".

    Attributes
    ----------
    key
        Content key: the same work has the same key, wherever and whenever it ran.
    suite
        Names of the suite and of its scale.
    scale
        Names of the suite and of its scale.
    dataset
        Title of the dataset.
    budget
        Number of labelled images, over all classes.
    fold
        Number of the fold, from 0.
    scheme
        Label of the scheme: its name, and its non-default parameters if the suite sets any. "teacher" for teachers.
    student
        Labels of the networks. `teacher` is "" if none is used; in a teacher's own cell `student` is "".
    teacher
        Labels of the networks. `teacher` is "" if none is used; in a teacher's own cell `student` is "".
    status
        "finished" or "failed".
    settings
        What the experiment was set to.
    seed
        Seed of the run.
    results
        All numbers.
    steps
        Optimiser steps of the training and images it looked at; None if the network failed.
    images_seen
        Optimiser steps of the training and images it looked at; None if the network failed.
    history
        Curves by epoch: "test_accuracy" to a list.
    network
        Key of the stage that trained the network; "" if it failed.
    stages
        Title to key of the stages.
    seconds
        Duration of the work, wherever it was done.
    hardware
        Of the training: "device", "cpu", "cores", "precision" and more; "label" is the short name for tables.
    versions
        Distributions and plugins that the network was trained with.
    git_commit
        Commit of the working folder, "" outside a repository.
    arrays
        "<tap>/<reducer>/<metric>.<name>" to the path of a file below the store.
    figures
        Likewise for figures of metrics: the path of an SVG; a PNG of the same name lies next to it.
    origins
        For measurements made on another machine or version than the training: "<tap>/<reducer>/<metric>" to
        {"hardware": labels, "kdbench": versions}, those of training, embedding and metric joined by "; ".
    error
        Traceback of a failed cell.
    created
        When its last stage ended, in seconds since the epoch.
    record_version
        Version of this layout.
    """

    key: str
    suite: str
    scale: str
    dataset: str
    budget: int
    fold: int
    scheme: str
    student: str
    teacher: str
    status: Literal["finished", "failed"]
    settings: Settings
    seed: int = 0
    results: tuple[Result, ...] = ()
    steps: int | None = None
    images_seen: int | None = None
    history: Mapping[str, list[float]] = field(default_factory=dict)
    network: str = ""
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

    @property
    def title(self) -> str:
        """For people: "400 labels · fold 1 · distilled"; folds count from 1."""
        return cell_title(self.budget, self.fold, self.scheme)

    @property
    def dataset_digest(self) -> str:
        """Digest of the dataset's content."""
        return str(self.settings.data.dataset.digest)

    @property
    def hardware_label(self) -> str:
        """Short name of the machine that trained the network."""
        return hardware_label(self.hardware)

    def to_json(self) -> dict[str, Any]:
        """Plain data; mappings are not copied deeply."""
        data = {name: dict(v) if isinstance(v, Mapping) else v for name, v in vars(self).items()}
        data["results"] = tuple(dict(vars(r)) for r in self.results)
        data["settings"] = self.settings.to_json()
        return data

    def origin(self, metric: str, tap: str | None = None, reducer: str | None = None) -> dict[str, str]:
        """Where a measurement was made: {"hardware", "kdbench"}; the training's unless `origins` has another."""
        trained = {"hardware": self.hardware_label, "kdbench": self.versions.get("kdbench", "")}
        if not self.origins:
            return trained
        return trained | dict(self.origins.get(measurement(metric, tap, reducer), {}))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CellRecord:
        """A record from plain data.

        Parameters
        ----------
        data
            What `to_json` returned.

        Returns
        -------
        CellRecord
            Equal to the one that was written.

        Raises
        ------
        WorkspaceError
            It was written in another version of this layout.
        TypeError, KeyError
            It is not a record.
        """
        version = data["record_version"]
        if version != RECORD_VERSION:
            raise WorkspaceError(
                f"a record of format {version}, and this kdbench reads format {RECORD_VERSION}",
                where=f"cell {data.get('key', '')}",
                hint="run the suite again in another workspace and tracking store (--workspace, --tracking-uri), "
                "or use the kdbench that wrote it",
            )
        fields = dict(data)
        fields["results"] = tuple(Result(**r) for r in fields["results"])
        fields["settings"] = Settings.from_json(fields["settings"])
        record = cls(**fields)
        record._check_types()
        return record

    def _check_types(self) -> None:
        """Raise TypeError where a reader would stumble over a value of another type."""
        for names, kind in ((("suite", "scale", "scheme", "status"), str), (("budget", "fold"), int)):
            for name in names:
                if not isinstance(getattr(self, name), kind):
                    raise TypeError(f"{name} is {getattr(self, name)!r}")
        for result in self.results:
            if not isinstance(result.value, int | float):
                raise TypeError(f"the value of {result.metric} is {result.value!r}")
        try:
            self.settings.flat()
        except (AttributeError, TypeError) as error:
            raise TypeError(f"settings: {error}") from error


def hardware_label(hardware: Mapping[str, Any]) -> str:
    """Short name of a machine for tables."""
    return str(hardware.get("label") or hardware.get("device") or "")


def cell_title(budget: int, fold: int, scheme: str) -> str:
    """For people: "400 labels · fold 1 · distilled"; folds count from 1."""
    return f"{budget} labels · fold {fold + 1} · {scheme}"


@dataclass(frozen=True)
class Outcome:
    """How the execution of a stage ended.

    Attributes
    ----------
    key
        Key of the stage.
    status
        "cached" if another run finished it in the meantime.
    seconds
        Duration.
    error
        A traceback, "" if it did not fail.
    warnings
        Sentences for people.
    """

    key: str
    status: Literal["finished", "cached", "failed"]
    seconds: float = 0.0
    error: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class StageSummary:
    """One stage of a plan: its key, kind and title, and how it ended."""

    key: str
    kind: str
    title: str
    status: Literal["finished", "cached", "failed", "skipped"]
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class RunSummary:
    """One invocation of `kdbench run`.

    Attributes
    ----------
    id
        Unique, and sortable by time: "20261121-101500-ab12cd".
    suite
        Names of the suite and of its scale.
    scale
        Names of the suite and of its scale.
    seed
        The seed that all others are derived from.
    stages
        Numbers of stages and cells of the plan.
    cells
        Numbers of stages and cells of the plan.
    workspace
        Folder of the results.
    suite_config
        The suite as it runs, as plain data.
    versions
        Versions of distributions and plugins.
    hardware
        The machine.
    git_commit
        Commit of the working folder, "" outside a repository.
    status
        "running", or how it ended.
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
