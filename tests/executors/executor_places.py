"""A place of work for tests of executors: it follows `kdbench.api.ExecutorContext` and does what stages say.

In a module of its own, for worker processes import it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdbench.api import Outcome, Resources
from kdbench.plan import Stage
from kdbench.plan.fields import NeighboursFields


@dataclass(frozen=True)
class ScriptedStage(Stage):
    """A stage that does what `does` says."""

    does: Mapping[str, Any] = field(default_factory=dict)


def stage(
    name: str,
    component: str = "things/any",
    *,
    after: Sequence[Stage] = (),
    coschedule: str = "",
    **does: Any,
) -> ScriptedStage:
    """A stage that does what `Place.execute` reads in `does`."""
    return ScriptedStage(
        kind="thing",
        component=component,
        fields=NeighboursFields(name, "euclidean", 1),
        inputs={f"needs{i}": s.key for i, s in enumerate(after)},
        title=name,
        coschedule=coschedule,
        does={"seconds": 0.05, **does},
    )


@dataclass(frozen=True)
class Here:
    """A context whose stages write what they saw into `folder`, one file an attempt."""

    folder: Path
    cores: tuple[int, ...] = (0, 1)
    device: str = "cpu"
    memory: float = 100.0

    def workplace(self) -> Place:
        return Place(self)

    def resources(self, stage: ScriptedStage) -> Resources:
        return Resources(**stage.does.get("resources", {}))

    def memory_gib(self) -> float:
        return self.memory

    def seen(self) -> list[dict[str, Any]]:
        """What all attempts saw, in the order in which they began."""
        notes = [json.loads(path.read_text()) for path in self.folder.glob("*.json")]
        return sorted(notes, key=lambda note: note["began"])


class Place:
    def __init__(self, context: Here) -> None:
        self.context = context

    def execute(
        self, stages: Sequence[ScriptedStage], listener: Any = None, *, threads: int = 0
    ) -> Iterator[Outcome]:
        for one in stages:
            does, began = one.does, time.monotonic()
            note = {
                "name": one.title,
                "began": began,
                "pid": os.getpid(),
                "threads": threads,
                "cores": sorted(os.sched_getaffinity(0)),
                "wait_policy": os.environ.get("OMP_WAIT_POLICY"),
                "together": len(stages),
            }
            path = self.context.folder / f"{one.title}.{began}.json"
            path.write_text(json.dumps(note))
            if listener and "says" in does:
                listener.warning(does["says"])
            if does.get("raises"):
                raise RuntimeError(does["raises"])
            time.sleep(does["seconds"])
            if does.get("dies") == "always" or (does.get("dies") == "in company" and self.company(one)):
                os.kill(os.getpid(), signal.SIGKILL)
            short = does.get("short of memory")
            lost = short == "always" or (short == "in company" and self.company(one))
            path.write_text(json.dumps({**note, "ended": time.monotonic()}))
            if lost:
                yield Outcome(one.key, "failed", error="torch.OutOfMemoryError: CUDA out of memory")
                continue
            yield Outcome(one.key, "finished", does["seconds"])

    def company(self, one: Stage) -> bool:
        """Whether another stage is under way in another process."""
        for path in self.context.folder.glob("*.json"):
            with contextlib.suppress(ValueError):  # it is being written
                note = json.loads(path.read_text())
                if "ended" not in note and note["name"] != one.title and alive(note["pid"]):
                    return True
        return False


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
