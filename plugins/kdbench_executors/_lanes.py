"""Lanes of a machine: the cores that concurrent stages share."""

from __future__ import annotations

from dataclasses import dataclass, field

from kdbench.api import Resources


@dataclass
class Lane:
    """Slots for concurrent stages. Each slot is a core; with too few cores, a core has several slots.

    Attributes
    ----------
    free
        Cores of the free slots.
    share
        Slots of a stage that uses several cores; any other stage gets one.
    slots
        Number of slots.
    """

    free: list[int]
    share: int
    slots: int = field(init=False)

    def __post_init__(self) -> None:
        self.slots = len(self.free)

    def required(self, resources: Resources) -> int:
        return self.share if resources.threads else 1

    def has_room(self, resources: Resources) -> bool:
        return len(self.free) >= self.required(resources)

    def allocate(self, resources: Resources) -> tuple[int, ...]:
        n = self.required(resources)
        cores, self.free = self.free[:n], self.free[n:]
        return tuple(cores)

    def release(self, cores: tuple[int, ...]) -> None:
        self.free = sorted([*self.free, *cores])


def lanes_of(cores: tuple[int, ...], n_jobs: int, *, gpu: bool) -> dict[str, Lane]:
    """The lanes of a machine.

    Without a GPU there is one lane, divided into `n_jobs` shares. With a GPU, `n_jobs` stages share the GPU, each
    with one core, and the other cores are divided into `n_jobs` shares for stages that do not use the GPU.
    """
    if not gpu:
        share = max(1, len(cores) // n_jobs)
        return {"cpu": Lane(_repeated(cores, max(len(cores), n_jobs)), share)}
    rest = cores[n_jobs:] or cores
    return {
        "gpu": Lane(_repeated(cores, n_jobs), 1),
        "cpu": Lane(list(rest), max(1, len(rest) // n_jobs)),
    }


def _repeated(cores: tuple[int, ...], n: int) -> list[int]:
    return sorted(cores[i % len(cores)] for i in range(n))
