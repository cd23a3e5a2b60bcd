"""Times a network's training steps in several processes at once, sharing the machine as stages would."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from kdbench.api.cores import confine, environment_for
from kdbench.errors import PluginError

#: Seconds of each timing, and how often each number of workers has its turn.
SECONDS, TURNS = 1.5, 2
#: Batches an epoch of the timed training: a network that takes seconds a step is timed in seconds, too.
BATCHES = 2


@dataclass(frozen=True)
class Probe:
    """A network to time: an architecture with its parameters, and what its images are like.

    Attributes:
        cores: ids of the cores that the workers share.
        resident_gib: images that a training holds on the device.
    """

    name: str
    params: Mapping[str, Any]
    version: str
    plugin_files: tuple[Path, ...]
    n_classes: int
    input_shape: tuple[int, int, int]
    batch_size: int
    precision: str
    device: str
    cores: tuple[int, ...]
    resident_gib: float = 0.0


@dataclass(frozen=True)
class Measured:
    """What a number of workers came to.

    Attributes:
        steps_per_second: of all workers together.
        host_gib: the largest memory of any worker. gpu_gib: the same on the GPU, without its context.
        gpu_free_gib: memory of the GPU that is free or this worker's.
    """

    steps_per_second: float
    host_gib: float
    gpu_gib: float = 0.0
    gpu_free_gib: float = 0.0


def measure(
    probe: Probe,
    numbers: Sequence[int],
    *,
    fits: Callable[[int, Measured], bool] = lambda n, alone: True,
    seconds: float = SECONDS,
) -> dict[int, Measured]:
    """Time each of `numbers` of workers, in turns; the faster of two turns counts.

    Workers beside each other get equal shares of the cores, and all of them train for the same `seconds`.

    Args:
        numbers: ascending, the first is 1.
        fits: whether so many workers have the memory, given what one measured. The others are left out.

    Raises:
        PluginError: the network can't be built or trained, with the worker's traceback.
    """
    workers = _Workers(probe)
    try:
        alone = workers.time(1, seconds)
        measured = {1: alone}
        for turn in range(TURNS):
            for n in [n for n in numbers if n > 1 and fits(n, alone)] + [1] * (turn + 1 < TURNS):
                found = workers.time(n, seconds)
                if n not in measured or found.steps_per_second > measured[n].steps_per_second:
                    measured[n] = found
        return measured
    finally:
        workers.stop()


class _Workers:
    """Processes that train when told to; started when they are first wanted."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._spawn = multiprocessing.get_context("spawn")
        self._workers: list[tuple[Any, Connection]] = []

    def time(self, n: int, seconds: float) -> Measured:
        cores = self._probe.cores
        while len(self._workers) < n:
            ours, theirs = self._spawn.Pipe()
            process = self._spawn.Process(target=_serve, args=(theirs, self._probe), daemon=True)
            with environment_for(max(1, len(cores) // n)):
                process.start()
            theirs.close()
            self._workers.append((process, ours))
        share = max(1, len(cores) // n)
        chosen = [connection for _, connection in self._workers[:n]]
        for i, connection in enumerate(chosen):
            own = [cores[(i * share + j) % len(cores)] for j in range(share)]
            connection.send((own, seconds))
        for connection in chosen:  # warm, and waiting for the others
            self._receive(connection)
        for connection in chosen:
            connection.send("go")
        found: list[Measured] = [self._receive(connection) for connection in chosen]
        return Measured(
            steps_per_second=sum(m.steps_per_second for m in found),
            host_gib=max(m.host_gib for m in found),
            gpu_gib=max(m.gpu_gib for m in found),
            gpu_free_gib=max(m.gpu_free_gib for m in found),
        )

    def _receive(self, connection: Connection) -> Any:
        where = f"architectures/{self._probe.name}"
        try:
            what, value = connection.recv()
        except EOFError as error:
            raise PluginError(
                "the process that timed its training died", where=where, hint="give --jobs a number"
            ) from error
        if what == "error":
            raise PluginError(
                f"its training can't be timed: {value}", where=where, hint="give --jobs a number"
            )
        return value

    def stop(self) -> None:
        for process, connection in self._workers:
            connection.close()
            process.terminate()
        for process, _ in self._workers:
            process.join()


def _serve(connection: Connection, probe: Probe) -> None:
    """In a worker: warm up, say so, wait for "go", train for the given seconds, tell; again and again."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    training: Callable[[int], int] | None = None
    while True:
        try:
            cores, seconds = connection.recv()
        except EOFError:
            return
        try:
            confine(cores)
            import torch

            torch.set_num_threads(len(cores))
            training = training or _training(probe)
            training(1)
            connection.send(("ready", None))
            connection.recv()
            steps, started = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - started) < seconds or not steps:
                steps += training(1)
            connection.send(("measured", _measured(probe, steps / elapsed)))
        except EOFError:
            return
        except Exception as error:
            connection.send(("error", "".join(traceback.format_exception(error))))


def _training(probe: Probe) -> Callable[[int], int]:
    """A function that trains for a number of epochs of random images and returns the steps that it made."""
    import numpy as np
    import torch

    from kdbench.api.data import Normalization
    from kdbench.registry import Registry
    from kdbench.suite.schema import Training
    from kdbench.training.data import Augmentation, ImageSource
    from kdbench.training.loop import Run, Supervised, train
    from kdbench.training.precision import channels_last

    registry = Registry.discover(files=probe.plugin_files)
    architecture = registry.create("architectures", probe.name, probe.params)
    model = channels_last(architecture.build(probe.n_classes, probe.input_shape), probe.device)
    rng = np.random.default_rng(0)
    n = probe.batch_size * BATCHES
    images = rng.integers(0, 256, (n, *probe.input_shape), dtype=np.uint8)
    channels = probe.input_shape[2]
    source = ImageSource(
        images, np.arange(n), Normalization((0.5,) * channels, (0.25,) * channels),
        augmentation=Augmentation(flip=True), device=probe.device,
    )  # fmt: skip
    labels = torch.as_tensor(rng.integers(0, probe.n_classes, n), device=probe.device)

    def run(epochs: int) -> int:
        # a rate of next to nothing: whatever the network, it does not diverge
        recipe: Any = Training.model_validate(
            {"epochs": epochs, "batch_size": probe.batch_size, "learning_rate": 1e-6, "eval_every": 0}
        )
        training = Run(
            student=model, epochs=epochs, batch_size=probe.batch_size, seed=0, labelled_source=source,
            labels=labels,
        )  # fmt: skip
        return train(training, Supervised(), recipe, precision=probe.precision).steps

    return run


def _measured(probe: Probe, steps_per_second: float) -> Measured:
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
    if not probe.device.startswith("cuda"):
        return Measured(steps_per_second, host)
    import torch

    free, _ = torch.cuda.mem_get_info(probe.device)
    reserved = torch.cuda.max_memory_reserved(probe.device)
    return Measured(
        steps_per_second, host, reserved / 2**30, (free + torch.cuda.memory_reserved(probe.device)) / 2**30
    )
