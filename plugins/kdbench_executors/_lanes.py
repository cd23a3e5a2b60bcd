"""Shares of a machine: which cores, and how many stages beside each other."""

from __future__ import annotations

from dataclasses import dataclass, field

from kdbench.api import Resources


@dataclass
class Lane:
    """Places beside each other; each is a core, and a core is several places where there are too few.

    Attributes:
        share: places that a stage gets that uses several cores; another gets one.
    """

    free: list[int]
    share: int
    places: int = field(init=False)

    def __post_init__(self) -> None:
        self.places = len(self.free)

    def wanted(self, resources: Resources) -> int:
        return self.share if resources.threads else 1

    def has_room(self, resources: Resources) -> bool:
        return len(self.free) >= self.wanted(resources)

    def take(self, resources: Resources) -> tuple[int, ...]:
        n = self.wanted(resources)
        taken, self.free = self.free[:n], self.free[n:]
        return tuple(taken)

    def give_back(self, cores: tuple[int, ...]) -> None:
        self.free = sorted([*self.free, *cores])


def lanes_of(cores: tuple[int, ...], n_jobs: int, *, gpu: bool) -> dict[str, Lane]:
    """The lanes of a machine.

    On a CPU there is one, cut into `n_jobs` shares. Beside a GPU, `n_jobs` stages at once are on the GPU, each
    with a core that feeds it, and as many shares of the other cores are for what runs on cores alone.
    """
    if not gpu:
        share = max(1, len(cores) // n_jobs)
        return {"cpu": Lane(_repeated(cores, max(len(cores), n_jobs)), share)}
    beside = cores[n_jobs:] or cores
    return {
        "gpu": Lane(_repeated(cores, n_jobs), 1),
        "cpu": Lane(list(beside), max(1, len(beside) // n_jobs)),
    }


def _repeated(cores: tuple[int, ...], n: int) -> list[int]:
    return sorted(cores[i % len(cores)] for i in range(n))
