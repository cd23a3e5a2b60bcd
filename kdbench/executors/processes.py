"""Several stages at once, each in a worker process that is kept warm."""

from __future__ import annotations

import multiprocessing
import os
import queue
import time
import traceback
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from kdbench.executors.context import Context, Listener, Workplace
from kdbench.plan import Stage
from kdbench.stages.task import Outcome
from kdbench.store import Store

# one a worker process, made by its initializer
_workplace: Workplace | None = None
_events: Any = None


def _begin(context: Context, events: Any) -> None:
    global _workplace, _events
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what an interruption means
    _workplace, _events = Workplace(context), events


class _Messenger:
    """Sends what a stage tells to the driver, progress at most five times a second."""

    def __init__(self) -> None:
        self._last = 0.0

    def progress(self, *about: Any) -> None:
        if time.monotonic() - self._last > 0.2:
            self._last = time.monotonic()
            _events.put(("progress", about))

    def warning(self, sentence: str) -> None:
        _events.put(("warning", (sentence,)))


def _work(stage: Stage) -> Outcome:
    assert _workplace is not None
    return _workplace.execute(stage, _Messenger())


class ProcessExecutor:
    """A pool of spawned workers (a fork would share locks and CUDA contexts that must not be shared).

    Args:
        jobs: workers. Threads of a worker are the context's; the caller divides the cores.
    """

    def __init__(self, context: Context, jobs: int) -> None:
        self.slots = jobs
        self._context = context
        spawn = multiprocessing.get_context("spawn")
        self._manager = spawn.Manager()
        self._events = self._manager.Queue()
        # several processes on a core spin each other slow otherwise; read when a worker loads its OpenMP
        policy = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(context.threads)}
        before = {name: os.environ.get(name) for name in policy}
        os.environ.update({k: v for k, v in policy.items() if before[k] is None})
        self._before = before
        self._new_pool = lambda: ProcessPoolExecutor(
            jobs, mp_context=spawn, initializer=_begin, initargs=(context, self._events)
        )
        self._pool = self._new_pool()
        self._futures: dict[Future[Outcome], Stage] = {}
        self._suspects: deque[Stage] = deque()
        self._held: deque[Stage] = deque()
        self._alone = False

    def submit(self, stage: Stage) -> None:
        if self._suspects or self._alone:
            self._held.append(stage)
        else:
            self._start(stage)

    def _start(self, stage: Stage) -> None:
        try:
            self._futures[self._pool.submit(_work, stage)] = stage
        except BrokenProcessPool:  # a worker died since the last outcome
            self._suspects += [stage, *self._lost()]

    def wait(self, listener: Listener) -> Outcome:
        """The next outcome.

        A worker that dies takes the whole pool along, and which stage it worked on isn't told. So the stages
        that were under way are started again one by one in a new pool: the one that dies alone has failed.
        """
        while True:
            if not self._futures:
                self._alone = bool(self._suspects)
                if self._alone:
                    self._start(self._suspects.popleft())
                while self._held and not self._alone:
                    self._start(self._held.popleft())
            done, _ = wait(self._futures, timeout=0.2, return_when=FIRST_COMPLETED)
            self._listen(listener)
            for future in done:
                stage = self._futures.pop(future)
                try:
                    outcome = future.result()
                    self._listen(listener)  # what it said last
                    return outcome
                except BrokenProcessPool as error:
                    others = self._lost()
                    if not others:
                        text = "the worker process died (out of memory?)\n" + "".join(
                            traceback.format_exception(error)
                        )
                        return Outcome(stage.key, "failed", error=text)
                    self._suspects += [stage, *others]
                    break

    def _listen(self, listener: Listener) -> None:
        while True:
            try:
                event, about = self._events.get_nowait()
            except queue.Empty:
                return
            getattr(listener, event)(*about)

    def _lost(self) -> list[Stage]:
        """The stages that a broken pool did not finish; a new pool takes its place."""
        whole = {f: s for f, s in self._futures.items() if f.done() and f.exception() is None}
        lost = [s for f, s in self._futures.items() if f not in whole]
        self._futures = whole
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = self._new_pool()
        return lost

    def stop(self) -> None:
        for process in list((self._pool._processes or {}).values()):
            process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._manager.shutdown()
        store = Store(self._context.workspace)
        for stage in self._futures.values():  # a terminated worker could not clean up
            store.discard(stage.key)
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
