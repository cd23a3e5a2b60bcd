"""The number of jobs of `--jobs auto`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdbench.plan import Stage

#: Up to this many cores each job gets one core; with more, two or more, because memory bandwidth is shared.
ONE_CORE_EACH = 4
#: Processes that share a GPU: one small network leaves it idle between kernels, but each needs its memory.
JOBS_ON_GPU = 4


def choose_jobs(outstanding: Sequence[Stage], *, device: str, cores: int) -> tuple[int, str]:
    """Choose a number of jobs by a rule of thumb.

    Parameters
    ----------
    outstanding
        Stages to execute, each after those that it needs.
    device
        Device of the run: "cpu", "cuda", ...
    cores
        Number of cores that the run may use.

    Returns
    -------
    int
        Number of jobs, from 1.
    str
        One line that says how it was chosen.
    """
    width = max(1, concurrent(outstanding))
    if device == "cpu":
        most = cores if cores <= ONE_CORE_EACH else max(ONE_CORE_EACH, cores // 2)
    else:
        most = min(cores, JOBS_ON_GPU)
    jobs = min(width, most)
    stages = f"at most {width} stage{'s' * (width > 1)} can run at once"
    return jobs, f"jobs: {jobs} ({cores} core{'s' * (cores > 1)}, device {device}; {stages})"


def concurrent(outstanding: Sequence[Stage]) -> int:
    """Return how many stages can run at once if all take equally long and the machine has no limits."""
    level: dict[str, int] = {}
    for stage in outstanding:
        level[stage.key] = 1 + max((level.get(key, 0) for key in stage.needs()), default=0)
    return max(Counter(level.values()).values(), default=0)
