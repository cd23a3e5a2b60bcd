"""What a plan is made of: stages, cells, scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kdbench.api.records import cell_title
from kdbench.api.settings import Settings
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

    Attributes:
        kind: from KINDS.
        component: "schemes/kl" for what does the work; "" where the core does.
        identity: all that its result depends on beside the inputs; hashed into the key.
        inputs: role to key of the artifacts its result depends on.
        aids: role to key of artifacts that only save it work (exact neighbours, say); not part of the key.
        options: what it needs to run that its result does not depend on (how to load the dataset).
        title: for people. work: amount, in `unit`, for estimates.
        together: stages of one name do well to take turns in one process (students of a live teacher); "" for none.
    """

    kind: str
    component: str
    identity: Mapping[str, Any]
    inputs: Mapping[str, str]
    title: str
    aids: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    work: float = 1.0
    unit: str = "stage"
    together: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if not self.key:
            identity: dict[str, Any] = {
                "kind": self.kind,
                "of": dict(self.identity),
                "inputs": dict(self.inputs),
            }
            if self.kind in STAGE_VERSIONS:
                identity["stage_version"] = STAGE_VERSIONS[self.kind]
            object.__setattr__(self, "key", content_key(identity))

    def needs(self) -> list[str]:
        return [*self.inputs.values(), *self.aids.values()]


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
