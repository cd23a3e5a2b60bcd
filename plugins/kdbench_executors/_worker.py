"""A worker: a process that executes groups of co-scheduled stages and stays warm between them."""

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

#: Smallest interval between progress messages, in seconds.
PROGRESS_EVERY = 0.2


class Worker:
    """Handle of a spawned process (a fork would share locks and CUDA contexts)."""

    def __init__(self, context: ExecutorContext, threads: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.connection, remote = spawn.Pipe()
        # not a daemon, because components may start processes; it exits when its connection closes
        self.process = spawn.Process(target=_serve, args=(remote, context), name="kdbench-worker")
        with environment_for(threads):
            self.process.start()
        remote.close()
        #: Components that the process has executed, and so has imported and compiled.
        self.used: set[str] = set()

    def execute(self, stages: Sequence[PlannedStage], threads: int, cores: tuple[int, ...] | None) -> None:
        """Start `stages`, pinned to `cores` if not None; their outcomes and messages come through `messages`."""
        self.used.update(s.component for s in stages)
        # `messages` detects and handles a process that has exited
        with contextlib.suppress(OSError):
            self.connection.send((stages, threads, cores))

    def messages(self) -> tuple[list[tuple[str, tuple[Any, ...]]], bool]:
        """New messages as (listener method or "outcome", arguments), and whether the process has exited."""
        received = []
        try:
            exited = not self.process.is_alive()  # first, so that messages sent before the exit are read
            while self.connection.poll():
                received.append(self.connection.recv())
        except (EOFError, OSError):
            exited = True
        return received, exited

    def exit_reason(self) -> str:
        self.process.join(timeout=5)
        code = self.process.exitcode
        if code is None:
            return "closed its connection"
        if code < 0:
            name = signal.Signals(-code).name
            return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        return f"ended with exit code {code}"

    def dismiss(self) -> None:
        """Let an idle worker exit."""
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
    """Sends the messages of a stage to the driver, progress at most five times per second."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._last = connection, 0.0

    def progress(self, *values: Any) -> None:
        if time.monotonic() - self._last > PROGRESS_EVERY:
            self._last = time.monotonic()
            self._connection.send(("progress", values))

    def warning(self, sentence: str) -> None:
        self._connection.send(("warning", (sentence,)))


def _serve(connection: Connection, context: ExecutorContext) -> None:
    """Execute the stages that are sent until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver handles interruptions
    workplace: Workplace | None = None
    messenger = _Messenger(connection)
    while True:
        try:
            stages, threads, cores = connection.recv()
        except EOFError:
            return
        pending = [stage.key for stage in stages]
        try:
            if cores:
                confine(cores)
            workplace = workplace or context.workplace()
            for outcome in workplace.execute(stages, messenger, threads=threads):
                pending.remove(outcome.key)
                connection.send(("outcome", (outcome,)))
        except BrokenPipeError:  # the driver has exited
            return
        except Exception as error:  # outside of a stage: a missing plugin, a full disk
            text = "".join(traceback.format_exception(error))
            for key in pending:
                connection.send(("outcome", (Outcome(key, "failed", error=text),)))
