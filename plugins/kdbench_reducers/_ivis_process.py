"""The process that the ivis package runs in: started by the first fit, kept for the next ones."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO

from kdbench.errors import PluginError

_STDERR_LINES = 30
_PATIENCE = 30.0  # seconds that an idle worker gets to end by itself


class WorkerProcess:
    """A worker that outlives a fit: importing TensorFlow takes as long as many a fit does.

    One task at a time; a task that raises leaves the worker alive, one that ends it lets the next task start
    another. It ends with this process, also where that is killed: its input ends then.

    Parameters
    ----------
    script
        What to run, `_ivis_worker.py`.
    threads
        Of TensorFlow, for the whole life of the worker.
    """

    def __init__(self, script: Path, threads: int) -> None:
        self.script = script
        self.threads = threads
        self.process: subprocess.Popen[str] | None = None
        self.log: IO[bytes] | None = None
        self.lock = threading.Lock()
        atexit.register(self.close)

    def run(self, folder: Path) -> None:
        """Have the task in `folder` done: its result.npz is there afterwards.

        Raises PluginError if with what the worker said last, or with the traceback of the fit.
        """
        with self.lock:
            process, log = self._started()
            said_before = os.fstat(log.fileno()).st_size
            try:
                answer = self._ask(process, folder)
            except BaseException:  # an interrupt: its answer would be taken for that of the next task
                self._end(0.0)
                raise
            if not answer:
                process.wait()
                log.seek(said_before)
                said = log.read().decode("utf-8", "replace")
                self._end(0.0)
                raise _failed(f"ended with exit code {process.returncode}", said)
        error = folder / "error.txt"
        if error.exists():
            raise _failed("failed", error.read_text("utf-8"))

    def close(self) -> None:
        """End the worker; a later task starts another."""
        with self.lock:
            self._end(_PATIENCE)

    def _started(self) -> tuple[subprocess.Popen[str], IO[bytes]]:
        if self.process is not None and self.process.poll() is not None:
            self._end(0.0)  # it died between two tasks
        if self.process is None or self.log is None:
            self.log = tempfile.TemporaryFile(prefix="kdbench-ivis-")  # noqa: SIM115 - `_end` closes it
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(self.script)],
                env=worker_environment(os.environ, self.threads),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                text=True,
            )
        return self.process, self.log

    @staticmethod
    def _ask(process: subprocess.Popen[str], folder: Path) -> str:
        """The worker's answer, "" where it ended without one."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(str(folder)) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            return ""
        return process.stdout.readline()

    def _end(self, patience: float) -> None:
        process, log, self.process, self.log = self.process, self.log, None, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                try:
                    pipe.close()
                except BrokenPipeError:  # it ended with a task unread
                    continue
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if log is not None:
            log.close()


@cache
def worker(script: Path, threads: int, owner: int) -> WorkerProcess:
    """The worker of this process for these threads; `owner`: `os.getpid()`, for a fork must not share it."""
    return WorkerProcess(script, threads)


def worker_environment(base: Mapping[str, str], threads: int) -> dict[str, str]:
    """The environment of the worker: legacy Keras, quiet TensorFlow, its threads."""
    return {
        **base,
        "TF_USE_LEGACY_KERAS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "OMP_NUM_THREADS": str(threads),
        "KDBENCH_IVIS_THREADS": str(threads),
    }


def _failed(how: str, said: str) -> PluginError:
    last = "\n".join(said.strip().splitlines()[-_STDERR_LINES:])
    return PluginError(
        f"the ivis package {how}:\n{last}",
        where="reducers/ivis",
        hint="ivis-torch is the same algorithm without TensorFlow",
    )
