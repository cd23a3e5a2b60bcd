"""Estimate the remaining time of a plan from records of similar stages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdbench.plan import Stage
    from kdbench.store import Store

#: Seconds per unit of work if the store has no record of a similar stage: a rough guess for two cores.
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
    """Remaining work of the stages of one kind and component.

    Attributes
    ----------
    kind
        Kind of the stages.
    component
        Their component.
    unit
        Unit of their work: "images", "points", ...; "stage" if it is not divided further.
    stages
        Number of stages.
    work
        Work of all of them, in units.
    seconds_per_unit
        Time per unit.
    measured
        Whether that is from records of this store on the same hardware, rather than a rough guess.
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
        """Estimated time of all stages."""
        return self.work * self.seconds_per_unit


def work_left(store: Store, outstanding: Iterable[Stage], device: str) -> list[WorkLeft]:
    """Sum the work of stages by kind and component.

    A stage is assumed to take as long per unit of work as recorded stages of its kind and component on the same
    hardware.

    Parameters
    ----------
    store
        Store with records of earlier stages.
    outstanding
        Stages that are still to be executed.
    device
        Device that they will run on.

    Returns
    -------
    list of WorkLeft
        In the order of the plan.
    """
    by_name: dict[tuple[str, str, str], list[Stage]] = {}
    for stage in outstanding:
        by_name.setdefault((stage.kind, stage.component, stage.unit), []).append(stage)
    measured = _seconds_per_unit(store, device) if by_name else {}
    return [
        WorkLeft(
            *name,
            stages=len(stages),
            work=sum(s.work for s in stages),
            seconds_per_unit=measured.get(name, ROUGH_SECONDS[name[0]]),
            measured=name in measured,
        )
        for name, stages in by_name.items()
    ]


def stage_seconds(store: Store, outstanding: tuple[Stage, ...], device: str) -> dict[str, float]:
    """Estimate the seconds of each stage, by its key."""
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
