"""Timing two ways to do the same work against each other on a machine that others use too.

    measured = interleave({"peer": peer, "kdbench": kdbench}, rounds=5)
    print(table("peer", measured, against="peer", machine=describe_machine("torch"), agreement={...}))

The sides take turns (A B A B), so that a busy minute meets both; the first round is dropped, for it pays for
imports, caches and thread pools; ratios are taken within a round and their median is what counts. Seconds of
processor time stand beside those on the wall: a neighbour stretches the latter alone.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

#: Environment variables that decide how many threads the libraries start and how these wait.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip


@dataclass
class Measured:
    """What `interleave` saw.

    Attributes:
        wall: seconds on the wall, one a kept round, by side.
        cpu: seconds of processor time of this process and its ended children, likewise.
        results: what each side returned, likewise.
        load: the machine's load average over a minute at the start of each kept round.
    """

    wall: dict[str, list[float]]
    cpu: dict[str, list[float]]
    results: dict[str, list[Any]]
    load: list[float] = field(default_factory=list)

    def ratios(self, of: str, against: str, *, cpu: bool = False) -> list[float]:
        """How many times faster `of` was than `against`, round by round."""
        seconds = self.cpu if cpu else self.wall
        return [slow / fast for slow, fast in zip(seconds[against], seconds[of], strict=True)]


def interleave(sides: Mapping[str, Callable[[], Any]], rounds: int = 5, *, dropped: int = 1) -> Measured:
    """Call the sides in turn, `dropped` rounds for warming up and `rounds` that count.

    Raises:
        ValueError: no round would be left.
    """
    if rounds < 1 or dropped < 0:
        raise ValueError(f"rounds={rounds}, dropped={dropped}: at least 1 and 0")
    measured = Measured(*({name: [] for name in sides} for _ in range(3)))
    for number in range(dropped + rounds):
        if number >= dropped:
            measured.load.append(round(os.getloadavg()[0], 2))
        for name, side in sides.items():
            wall, cpu = time.perf_counter(), _cpu_seconds()
            result = side()
            wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
            if number >= dropped:
                measured.wall[name].append(wall)
                measured.cpu[name].append(cpu)
                measured.results[name].append(result)
    return measured


def describe_machine(*packages: str) -> dict[str, Any]:
    """Hardware, threads, load and versions of what is compared; plain data for a record.

    Args:
        packages: distributions whose versions matter; one that is not installed is left out.
    """
    versions = {"python": platform.python_version()}
    for package in ("kdbench", "numpy", "torch", *packages):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    cpuinfo = _cpuinfo()
    flags = set(cpuinfo.get("flags", "").split())
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": cpuinfo.get("model name", platform.processor()),
        "instructions": [flag for flag in wanted if flag in flags],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        "load": [round(x, 2) for x in os.getloadavg()],
        "versions": versions,
    }


def table(
    name: str,
    measured: Measured,
    *,
    against: str,
    machine: Mapping[str, Any],
    agreement: Mapping[str, Any],
    more: Mapping[str, Any] | None = None,
    folder: Path | None = RESULTS,
) -> str:
    """A Markdown table of medians and ranges, with `against` as 1; the record goes to `folder`/NAME.json.

    Args:
        agreement: how it was checked that the sides do the same, with numbers; shown above the table.
        more: further plain data for the record.
        folder: None writes no record.
    """
    rows = []
    for side, seconds in measured.wall.items():
        cells = [side, spread(seconds, "s"), spread(measured.cpu[side], "s")]
        for cpu in (False, True):
            cells.append("1" if side == against else spread(measured.ratios(side, against, cpu=cpu), "x"))
        rows.append(cells)
    head = ["", "wall", "processor", "faster, wall", "faster, processor"]
    if folder is not None:
        record = {
            "name": name, "against": against, "machine": dict(machine), "agreement": dict(agreement),
            "load": measured.load,
            "wall_seconds": _rounded(measured.wall), "cpu_seconds": _rounded(measured.cpu),
            "faster_wall": {
                side: _rounded(measured.ratios(side, against)) for side in measured.wall if side != against
            },
        } | dict(more or {})  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return "\n".join([heading(name, machine, agreement, measured.load), "", markdown(head, rows)])


def heading(
    name: str, machine: Mapping[str, Any], agreement: Mapping[str, Any], load: Sequence[float] = ()
) -> str:
    """The lines that no table should be read without: on what, with what, beside what, and what agreed."""
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    instructions = ", ".join(machine["instructions"]) or "no vector instructions named"
    busy = f"{min(load):.1f} to {max(load):.1f}" if load else f"{machine['load'][0]:.1f}"
    lines = [
        f"### {name}",
        f"{machine['cores']} cores of {machine['processor']} ({instructions}), {machine['memory_gib']} GiB, "
        f"{machine['system']}, {machine['date']}; load {busy}; threads {dict(machine['threads']) or 'default'}",
        versions,
        *(f"agreement, {what}: {value}" for what, value in agreement.items()),
    ]
    return "  \n".join(lines)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def spread(values: Sequence[float], unit: str = "") -> str:
    """Median and range: "4.2x (3.9 to 4.6)"."""
    middle = statistics.median(values)
    digits = 3 if middle < 1 else 2 if middle < 10 else 1
    text = f"{middle:.{digits}f}{unit if unit == 'x' else ' ' + unit if unit else ''}"
    return text if len(values) == 1 else f"{text} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return float(f"{value:.5g}")


def _cpu_seconds() -> float:
    """Of this process, all its threads, and those children that have been waited for."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def _cpuinfo() -> dict[str, str]:
    """The first processor's entries; empty where the platform has no such file."""
    file = Path("/proc/cpuinfo")
    if not file.is_file():
        return {}
    first = file.read_text().split("\n\n", 1)[0]
    return {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in first.splitlines())}
