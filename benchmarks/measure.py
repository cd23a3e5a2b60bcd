"""Time and memory of the commands that people run, in processes of their own.

    python benchmarks/measure.py            # the start of the CLI, `quick` from nothing, and again
    python benchmarks/measure.py --start    # the start alone
    python benchmarks/measure.py --paper-memory   # the peak of scale `paper` on the host, in an hour's hundredth

Prints a table; the figures in benchmarks/README.md come from it.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KDBENCH = [sys.executable, "-m", "kdbench.cli.main"]


def timed(command: list[str], **env: str) -> tuple[float, float]:
    """Wall seconds, and the peak resident memory of the largest child so far in GiB."""
    started = time.perf_counter()
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **env}
    )
    seconds = time.perf_counter() - started
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def start(repeats: int = 7) -> None:
    """`--help` and `list`, the median of several starts."""
    for words in (["--help"], ["list"]):
        seconds = [timed([*KDBENCH, *words])[0] for _ in range(repeats)]
        print(f"kdbench {' '.join(words):24}{statistics.median(seconds):8.2f} s  (best {min(seconds):.2f} s)")


def quick() -> None:
    """`run paper-reference` in an empty workspace with an empty cache, and the same again."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"XDG_CACHE_HOME": str(Path(folder) / "cache")}
        command = [*KDBENCH, "run", "paper-reference", "--workspace", str(Path(folder) / "workspace")]
        first, memory = timed(command, **environment)
        print(f"kdbench run paper-reference     {first:8.1f} s  peak {memory:.2f} GiB")
        again = [timed(command, **environment)[0] for _ in range(3)]
        print(f"the same again                  {statistics.median(again):8.1f} s")


#: Scale `paper` with all of its images, layers and points, and as little training as there can be: memory does not
#: depend on epochs, budgets or folds. The teacher is built without ImageNet's weights and enlarges nothing.
PAPER_MEMORY = (
    "data.budgets=[400]", "data.folds=1", "student.epochs=1", "teacher.epochs=1",
    'teacher.architecture={ name = "resnet18", weights = "none", upsample = 32, label = "resnet18" }',
    'reducers=[{ name = "ivis-torch", epochs = 2, label = "ivis-torch" }]',
)  # fmt: skip


def paper_memory() -> None:
    """Peak resident memory of `run paper-reference --scale paper`, cut short; needs CIFAR-100 in KDBENCH_DATA."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*KDBENCH, "run", "paper-reference", "--scale", "paper", "--workspace", folder]
        seconds, memory = timed([*command, *(w for o in PAPER_MEMORY for w in ("--set", o))])
        print(f"paper scale, cut short          {seconds:8.1f} s  peak {memory:.2f} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--start", action="store_true", help="the start of the CLI alone")
    parser.add_argument("--paper-memory", action="store_true", help="the peak memory of scale paper")
    args = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
    if args.paper_memory:
        paper_memory()
        return
    start()
    if not args.start:
        quick()


if __name__ == "__main__":
    main()
