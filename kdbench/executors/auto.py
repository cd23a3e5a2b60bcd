"""How many stages at once: measured on this machine, with the network that a plan trains."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench.executors.probe import Measured, Probe, measure
from kdbench.executors.resources import available_memory_gib
from kdbench.store import content_key

if TYPE_CHECKING:
    from kdbench.api.data import ImageData
    from kdbench.plan import Plan, Stage
    from kdbench.registry import Registry

#: A plan that takes less is not worth the measurement, which takes about that long.
WORTH_SECONDS = 40.0
#: More workers must bring this much.
GAIN = 1.05
#: Processes on a GPU, at most.
MOST_ON_GPU = 16
#: GiB that a CUDA context, its libraries' workspaces and graphs take beside the tensors.
CUDA_CONTEXT_GIB = 0.8


@dataclass(frozen=True)
class Choice:
    """A number of jobs, and why, in one line."""

    jobs: int
    sentence: str


def choose_jobs(
    plan: Plan,
    outstanding: Sequence[Stage],
    registry: Registry,
    data: ImageData,
    *,
    device: str,
    cores: tuple[int, ...],
    seconds: float,
    cache: Path,
) -> Choice:
    """The number of jobs under which the plan's students train fastest in sum.

    One worker with all cores is timed against more with fewer cores each (on a GPU: against more that share
    it, as far as its memory goes), at the same time and with the real training loop. The timing is kept in
    `cache` for this machine, version of torch, network and batch size.

    Args:
        seconds: that the outstanding stages are estimated to take, one after another.

    Raises:
        PluginError, SuiteError: the student can't be built, or does not train here.
    """
    width = concurrent(outstanding)
    if width <= 1:
        return Choice(1, "jobs: 1 (stages depend on each other: none run side by side)")
    if not any(stage.kind == "student" for stage in outstanding):
        jobs = min(len(cores), width)
        return Choice(
            jobs, f"jobs: {jobs} (no student to train; {_cores(cores)}, {width} stages side by side)"
        )
    probe = probe_of(plan, data, registry, device=device, cores=cores)
    most = MOST_ON_GPU if device != "cpu" else len(cores)
    kept = cache / f"{_key(probe, most)}.json"
    measured = _read(kept)
    how = "measured before"
    if measured is None:
        if seconds < WORTH_SECONDS:
            return Choice(1, f"jobs: 1 (about {seconds:.0f} s of work: no longer than to measure)")
        measured, how = measure(probe, numbers(most), fits=_fits(probe)), "measured now"
        _write(kept, measured)
    limits = {n: m for n, m in measured.items() if n <= width and _fits(probe)(n, measured[1])}
    jobs = best(limits)
    tried = ", ".join(f"{n}: {m.steps_per_second:.3g}" for n, m in sorted(measured.items()))
    each = max(1, len(cores) // jobs)
    share = f"{each} thread{'s' * (each > 1)} each" if device == "cpu" else f"on {device}"
    return Choice(
        jobs,
        f"jobs: {jobs}, {share} (steps a second of {plan.suite.student.architecture.title} by number of jobs: "
        f"{tried}; {how}; {width} stages side by side)",
    )


def concurrent(outstanding: Sequence[Stage]) -> int:
    """How many stages can be executed at once, were each as long as any other and the machine without end."""
    level: dict[str, int] = {}
    for stage in outstanding:  # in an order in which they can be done
        level[stage.key] = 1 + max((level.get(key, 0) for key in stage.needs()), default=0)
    counts: dict[int, int] = {}
    for n in level.values():
        counts[n] = counts.get(n, 0) + 1
    return max(counts.values(), default=0)


def numbers(most: int) -> list[int]:
    """Numbers of workers to try: powers of two, and all."""
    return sorted({2**i for i in range(most.bit_length()) if 2**i <= most} | {most})


def best(measured: Mapping[int, Measured]) -> int:
    """The fewest workers that no other number exceeds by more than `GAIN`."""
    fastest = max(m.steps_per_second for m in measured.values())
    return min(n for n, m in measured.items() if m.steps_per_second * GAIN >= fastest)


def probe_of(
    plan: Plan, data: ImageData, registry: Registry, *, device: str, cores: tuple[int, ...]
) -> Probe:
    """The plan's student, to be timed."""
    from kdbench.training.precision import resolve_precision

    student = plan.suite.student
    reference = student.architecture
    spec = registry.spec("architectures", reference.name)
    return Probe(
        name=reference.name,
        params=dict(reference.params),
        version=str(spec.version),
        plugin_files=registry.files,
        n_classes=data.n_classes,
        input_shape=data.input_shape,
        batch_size=student.batch_size,
        precision=resolve_precision(student.precision, device),
        device=device,
        cores=cores,
        resident_gib=len(data.train.images) * math.prod(data.input_shape) / 2**30,
    )


def _fits(probe: Probe) -> Any:
    """(workers, measured with one) -> whether their memory is there, on the GPU or on the host."""
    host = available_memory_gib()

    def fits(n: int, alone: Measured) -> bool:
        on_host = n * (alone.host_gib + probe.resident_gib) <= host
        if probe.device == "cpu":
            return n == 1 or on_host
        on_gpu = n * (alone.gpu_gib + CUDA_CONTEXT_GIB + probe.resident_gib) <= alone.gpu_free_gib
        return n == 1 or (on_host and on_gpu)

    return fits


def _cores(cores: Sequence[int]) -> str:
    return f"{len(cores)} core{'s' * (len(cores) > 1)}"


def _key(probe: Probe, most: int) -> str:
    import torch

    from kdbench.stages.provenance import hardware

    identity = asdict(probe) | {"plugin_files": [], "cores": len(probe.cores), "most": most}
    identity["input_shape"] = list(probe.input_shape)
    machine = hardware(probe.device, len(probe.cores))["label"]
    return content_key(identity | {"machine": machine, "torch": torch.__version__})


def _read(path: Path) -> dict[int, Measured] | None:
    if not path.is_file():
        return None
    try:
        return {int(n): Measured(**m) for n, m in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, TypeError):  # damaged, or of an older kdbench: it is measured again and written anew
        return None


def _write(path: Path, measured: Mapping[int, Measured]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps({n: asdict(m) for n, m in measured.items()}), encoding="utf-8")
    draft.replace(path)
