"""The classes of a plan: stages, cells, scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kdbench.api.records import cell_title
from kdbench.api.settings import Settings
from kdbench.plan.fields import Fields, Runtime, key_json
from kdbench.store import content_key

if TYPE_CHECKING:
    from kdbench.suite.schema import Suite

#: The order in which kinds of stages stand in tables.
KINDS = (
    "source",
    "backbone",
    "teacher",
    "targets",
    "student",
    "features",
    "neighbours",
    "embedding",
    "score",
)

#: Raised for a kind of stage when its own code (training, storage) changes what comes out; 1 is not written
#: into keys.
STAGE_VERSIONS: Mapping[str, int] = {
    "backbone": 2,  # batch normalisation folded
    "targets": 2,
}


@dataclass(frozen=True)
class Stage:
    """One piece of work.

    Attributes
    ----------
    kind
        From `KINDS`.
    component
        What does the work: "schemes/kl"; "" for the core itself.
    fields
        Everything that the result depends on in addition to the inputs; hashed into the key.
    inputs
        Role to key of the artifacts that the result depends on.
    title
        For people.
    cached_inputs
        Role to key of artifacts that only save work, such as exact neighbours; not part of the key.
    runtime
        What it needs to run and the result does not depend on.
    work
        Amount, in `unit`, for estimates.
    unit
        Of `work`.
    coschedule
        Stages with the same name are best run in turns in one process, because they share a live teacher; "" for
        none.
    key
        Content key.
    """

    kind: str
    component: str
    fields: Fields
    inputs: Mapping[str, str]
    title: str
    cached_inputs: Mapping[str, str] = field(default_factory=dict)
    runtime: Runtime = field(default_factory=Runtime)
    work: float = 1.0
    unit: str = "stage"
    coschedule: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if not self.key:
            hashed: dict[str, Any] = {
                "kind": self.kind,
                "of": key_json(self.fields),
                "inputs": dict(self.inputs),
            }
            if self.kind in STAGE_VERSIONS:
                hashed["stage_version"] = STAGE_VERSIONS[self.kind]
            object.__setattr__(self, "key", content_key(hashed))

    def needs(self) -> list[str]:
        """Keys of all inputs."""
        return [*self.inputs.values(), *self.cached_inputs.values()]


@dataclass(frozen=True)
class Score:
    """A score stage as a cell sees it."""

    key: str
    metric: str
    primary: str
    tap: str | None
    reducer: str | None


@dataclass(frozen=True)
class Cell:
    """dataset x budget x fold x scheme; see `kdbench.api.CellRecord` for the fields."""

    key: str
    budget: int
    fold: int
    scheme: str
    student: str
    teacher: str
    seed: int
    network: str
    scores: tuple[Score, ...]
    embeddings: Mapping[str, str]
    settings: Settings

    @property
    def title(self) -> str:
        return cell_title(self.budget, self.fold, self.scheme)

    def stages(self) -> list[str]:
        return [self.network, *self.embeddings.values(), *(s.key for s in self.scores)]


@dataclass(frozen=True)
class Plan:
    """The stages of a suite in an order in which they can be done, its cells, and what was left out and why."""

    suite: Suite
    seed: int
    dataset: str
    dataset_digest: str
    stages: Mapping[str, Stage]
    cells: tuple[Cell, ...]
    exclusions: tuple[str, ...]

    def outstanding(self, done: Iterable[str]) -> list[Stage]:
        """The stages that must still run, in order: what a cell wants and is not done, and what that needs."""
        finished = set(done)
        wanted: set[str] = set()
        queue = [k for cell in self.cells for k in cell.stages() if k not in finished]
        while queue:
            key = queue.pop()
            if key in wanted or key in finished:
                continue
            wanted.add(key)
            queue += self.stages[key].needs()
        return [s for s in self.stages.values() if s.key in wanted]


def ordered(stages: Mapping[str, Stage]) -> dict[str, Stage]:
    """Depth first from each stage, inputs before users: work of one cell stays together, so that the first
    cells finish early and what they hold in memory is still there when it is wanted."""
    ordered: dict[str, Stage] = {}

    def visit(key: str) -> None:
        if key in ordered:
            return
        for needed in stages[key].needs():
            visit(needed)
        ordered[key] = stages[key]

    for key in stages:
        visit(key)
    return ordered
