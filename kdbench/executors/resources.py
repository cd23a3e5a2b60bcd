"""Resources that stages request, and the memory of the machine."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench.api.specs import MetricSpec, Resources

if TYPE_CHECKING:
    from kdbench.plan import Stage
    from kdbench.registry import Registry
    from kdbench.store import Store

GIB = 2**30

#: float32 copies of a layer that a stage over it holds: the layer, and one that is centred, scaled or sorted.
LAYER_COPIES = 2


def resources_of(stage: Stage, registry: Registry, store: Store) -> Resources:
    """What a stage asks for: its component's resources and, in its memory, the layer that it reads.

    A stage that runs networks runs on the device, whatever its architecture's spec says, and has the
    architecture's memory. `store` holds what the stage needs.
    """
    kind, _, name = stage.component.partition("/")
    if stage.kind in ("embedding", "score"):
        spec = registry.spec(kind, name)
        asked = spec.resources
        for _, reducer in stage.runtime.reducers:
            asked = _both(asked, registry.spec("reducers", reducer.name).resources)
        reads = not isinstance(spec, MetricSpec) or bool(spec.needs & {"features", "neighbours"})
    elif stage.runtime.network is not None:
        network = registry.spec("architectures", stage.runtime.network.name)
        asked, reads = replace(network.resources, gpu=True), False
    else:
        asked, reads = Resources(gpu=True), True
    layer = _layer_gib(stage, store) if reads else 0.0
    return replace(asked, memory_gib=asked.memory_gib + LAYER_COPIES * layer)


def _both(a: Resources, b: Resources) -> Resources:
    """What a stage asks for that uses the one and then the other."""
    return Resources(
        gpu=a.gpu or b.gpu,
        threads=a.threads or b.threads,
        memory_gib=max(a.memory_gib, b.memory_gib),
        warm_up=a.warm_up + b.warm_up,
    )


def _layer_gib(stage: Stage, store: Store) -> float:
    """Size of the activations that a stage reads, as float32."""
    tap, key = getattr(stage.fields, "tap", None), stage.inputs.get("features")
    if not tap or not key or not store.has(key):
        return 0.0
    return 4 * store.open(key).array(tap).size / GIB


def available_memory_gib() -> float:
    """Memory that is free, or left of the limit that this process's group has, in GiB; inf where unknown.

    What the system only keeps as a cache of files counts as free.
    """
    return min(_free_bytes(), _left_of_limit()) / GIB


def _free_bytes() -> float:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * float(line.split()[1])
    except OSError:
        pass  # no Linux
    names: Callable[[str], int] | None = getattr(os, "sysconf", None)
    try:
        return float(names("SC_PHYS_PAGES") * names("SC_PAGE_SIZE")) if names else math.inf
    except (ValueError, OSError):
        return math.inf


def _left_of_limit(root: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes left of the control group's limit (version 2, then version 1); inf without one."""
    for folder, limit, used, cached in (
        (root, "memory.max", "memory.current", "inactive_file"),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most = (folder / limit).read_text().strip()
            if most == "max":
                continue
            statistics = dict(
                line.split(maxsplit=1) for line in (folder / "memory.stat").read_text().splitlines()
            )
            taken = int((folder / used).read_text()) - int(statistics.get(cached, 0))
            return float(max(0, int(most) - taken))
        except OSError:
            continue
    return math.inf
