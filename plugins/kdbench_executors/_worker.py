"""A worker: a process that executes bundles of stages and stays warm between them."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from kdbench.api import ExecutorContext, Outcome, PlannedStage, Workplace, confine, environment_for

#: Seconds between two messages of progress.
PROGRESS_EVERY = 0.2


class Worker:
    """A spawned process, as the driver sees it (a fork would share locks and CUDA contexts).

    Attributes:
        used: components that it has executed, and so has imported and compiled.
    """

    def __init__(self, context: ExecutorContext, threads: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.connection, theirs = spawn.Pipe()
        # not a daemon: components may start processes of their own; it ends when its connection closes
        self.process = spawn.Process(target=_serve, args=(theirs, context), name="kdbench-worker")
        with environment_for(threads):
            self.process.start()
        theirs.close()
        self.used: set[str] = set()

    def execute(self, stages: Sequence[PlannedStage], threads: int, cores: tuple[int, ...] | None) -> None:
        """Begin; outcomes and what stages tell come through `messages`. `cores`: to stay on, None for any."""
        self.used.update(s.component for s in stages)
        # an end that is found while sending is found again, and dealt with, by `messages`
        with contextlib.suppress(OSError):
            self.connection.send((stages, threads, cores))

    def messages(self) -> tuple[list[tuple[str, tuple[Any, ...]]], bool]:
        """What it has said since the last call as (member of a listener or "outcome", arguments), and whether
        it has ended."""
        said = []
        try:
            ended = not self.process.is_alive()  # asked first: what it said before is still read
            while self.connection.poll():
                said.append(self.connection.recv())
        except (EOFError, OSError):
            ended = True
        return said, ended

    def how_it_ended(self) -> str:
        self.process.join(timeout=5)
        code = self.process.exitcode
        if code is None:
            return "closed its connection"
        if code < 0:
            name = signal.Signals(-code).name
            return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        return f"ended with exit code {code}"

    def dismiss(self) -> None:
        """Ask an idle worker to end."""
        self.connection.close()

    def terminate(self) -> None:
        self.process.terminate()
        self.connection.close()

    def join(self, timeout: float = 10) -> None:
        self.process.join(timeout)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


class _Messenger:
    """Sends what a stage tells to the driver, progress at most five times a second."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._last = connection, 0.0

    def progress(self, *about: Any) -> None:
        if time.monotonic() - self._last > PROGRESS_EVERY:
            self._last = time.monotonic()
            self._connection.send(("progress", about))

    def warning(self, sentence: str) -> None:
        self._connection.send(("warning", (sentence,)))


def _serve(connection: Connection, context: ExecutorContext) -> None:
    """Execute what is sent until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what an interruption means
    workplace: Workplace | None = None
    messenger = _Messenger(connection)
    while True:
        try:
            stages, threads, cores = connection.recv()
        except EOFError:
            return
        left = [stage.key for stage in stages]
        try:
            if cores:
                confine(cores)
            workplace = workplace or context.workplace()
            for outcome in workplace.execute(stages, messenger, threads=threads):
                left.remove(outcome.key)
                connection.send(("outcome", (outcome,)))
        except BrokenPipeError:  # the driver is gone
            return
        except Exception as error:  # outside of a stage: a plugin that can't be found here, a full disk
            text = "".join(traceback.format_exception(error))
            for key in left:
                connection.send(("outcome", (Outcome(key, "failed", error=text),)))
