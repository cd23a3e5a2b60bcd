"""Processor cores: which ones a process may use, and how several processes share them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path


def available_cores() -> tuple[int, ...]:
    """Ids of the cores that this process may use (its affinity), in order.

    Where the platform has no affinities: 0 up to the number of cores.
    """
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def confine(cores: Iterable[int]) -> bool:
    """Keep this process, the threads that it has and those that it will start, on `cores`.

    Pools of threads (OpenMP, BLAS, numba) keep the affinity that they were started with, so every thread is
    told. False where the platform has no affinities; nothing is changed then.
    """
    if not hasattr(os, "sched_setaffinity"):
        return False
    wanted = set(cores)
    os.sched_setaffinity(0, wanted)
    for thread in _threads():
        with contextlib.suppress(ProcessLookupError):  # it ended since it was listed
            os.sched_setaffinity(thread, wanted)
    return True


def _threads() -> list[int]:
    folder = Path("/proc/self/task")
    return [int(entry.name) for entry in folder.iterdir()] if folder.is_dir() else []


def thread_environment(threads: int) -> dict[str, str]:
    """Environment variables for a process that shares cores with others and uses `threads` of them.

    OpenMP, the BLAS libraries, numba and TensorFlow read them when they are loaded, so they are for a process
    that is yet to start. Threads that wait sleep (`OMP_WAIT_POLICY`): on a core that is shared, threads that
    wait by spinning take the time of those that they wait for.
    """
    n = str(threads)
    names = (
        "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS",
        "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS",
    )  # fmt: skip
    return dict.fromkeys(names, n) | {"OMP_WAIT_POLICY": "PASSIVE"}


@contextlib.contextmanager
def environment_for(threads: int) -> Iterator[None]:
    """Within it, processes start with `thread_environment(threads)`; what the environment sets already stays."""
    new = {k: v for k, v in thread_environment(threads).items() if k not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)
