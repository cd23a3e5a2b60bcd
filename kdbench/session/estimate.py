"""How long what is left of a plan may take, from what its like took here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdbench.plan import Stage
    from kdbench.store import Store

#: Seconds a unit of work takes where the store has no record of one like it: a rough guess for two cores.
ROUGH_SECONDS = {
    "source": 8.0,  # an epoch
    "backbone": 1 / 150,  # an image, enlarged
    "teacher": 1 / 300,
    "targets": 1 / 600,
    "student": 1 / 700,
    "features": 1 / 700,
    "neighbours": 1e-7,  # a pair
    "embedding": 0.005,  # a point
    "score": 0.3,
}


@dataclass(frozen=True)
class WorkLeft:
    """What stages of one kind and component have still to do.

    Attributes:
        stages: how many. work: of all of them, in `unit`; "stage" where one is one piece of work.
        seconds_per_unit: from records of this store on the same hardware if `measured`, else a rough guess.
    """

    kind: str
    component: str
    unit: str
    stages: int
    work: float
    seconds_per_unit: float
    measured: bool

    @property
    def seconds(self) -> float:
        return self.work * self.seconds_per_unit


def work_left(store: Store, outstanding: Iterable[Stage], device: str) -> list[WorkLeft]:
    """The work of `outstanding` by kind and component, in the order of the plan.

    A stage is taken to cost per unit of work what those of its kind and component cost on the same hardware.
    """
    wanted: dict[tuple[str, str, str], list[Stage]] = {}
    for stage in outstanding:
        wanted.setdefault((stage.kind, stage.component, stage.unit), []).append(stage)
    known = _seconds_per_unit(store, device) if wanted else {}
    return [
        WorkLeft(
            *name,
            stages=len(stages),
            work=sum(s.work for s in stages),
            seconds_per_unit=known.get(name, ROUGH_SECONDS[name[0]]),
            measured=name in known,
        )
        for name, stages in wanted.items()
    ]


def stage_seconds(store: Store, outstanding: tuple[Stage, ...], device: str) -> dict[str, float]:
    """Seconds that each stage may take, by its key."""
    left = work_left(store, outstanding, device)
    costs = {(w.kind, w.component, w.unit): w.seconds_per_unit for w in left}
    return {s.key: s.work * costs[s.kind, s.component, s.unit] for s in outstanding}


def _seconds_per_unit(store: Store, device: str) -> dict[tuple[str, str, str], float]:
    from kdbench.api import available_cores
    from kdbench.stages.provenance import hardware

    cores = len(available_cores())
    here = hardware(device, cores, cores)["label"]
    costs: dict[tuple[str, str, str], tuple[float, float]] = {}
    for record in store.records():
        if record.get("work") and record.get("seconds") and record["hardware"].get("label") == here:
            name = (record["kind"], record["component"], record["unit"])
            seconds, work = costs.get(name, (0.0, 0.0))
            costs[name] = (seconds + record["seconds"], work + record["work"])
    return {name: seconds / work for name, (seconds, work) in costs.items()}
