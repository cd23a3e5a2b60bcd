"""Several stages at once, in worker processes that stay warm."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for

from kdbench.api import ExecutorContext, Listener, Outcome, PlannedStage, Resources
from kdbench_executors._lanes import lanes_of
from kdbench_executors._worker import Worker


@dataclass
class _Job:
    """Co-scheduled stages that a worker executes. `pending`: those without an outcome, by key."""

    pending: dict[str, PlannedStage]
    lane: str
    cores: tuple[int, ...]
    memory_gib: float
    #: Whether the worker had executed the component before.
    warm: bool
    #: Whether it runs alone on the machine, after its worker exited.
    retry: bool


class ProcessExecutor:
    """Worker processes that share the machine.

    Cores are divided into `n_jobs` shares. A stage that uses several cores gets a share, any other stage one core,
    and each stage is pinned to its cores. With a GPU, `n_jobs` stages share it, and stages that do not use it run
    on the other cores. Stages whose memory does not fit together wait. A component that takes long to warm up is
    sent to a worker where it is warm.

    Results can depend on `n_jobs` only through the number of threads of a stage: sums over several threads are
    rounded in another order.

    Parameters
    ----------
    n_jobs
        Number of shares, >= 1. More shares than cores are possible but slow.
    pin
        Pin each stage to its cores; otherwise the system schedules its threads.
    """

    def __init__(self, *, n_jobs: int = 2, pin: bool = True) -> None:
        if n_jobs < 1:
            raise ValueError(f"n_jobs={n_jobs}: at least 1")
        self.n_jobs, self.pin = n_jobs, pin
        self.slots = n_jobs

    def start(self, context: ExecutorContext) -> None:
        self._context = context
        self._gpu = context.device != "cpu"
        self._lanes = lanes_of(context.cores, self.n_jobs, gpu=self._gpu)
        self.slots = sum(lane.slots for lane in self._lanes.values())
        self._memory = context.memory_gib()
        self._idle: dict[str, list[Worker]] = defaultdict(list)
        self._jobs: dict[Worker, _Job] = {}
        self._queue: deque[Sequence[PlannedStage]] = deque()  # submitted, waiting for resources
        self._retries: deque[PlannedStage] = deque()  # their worker exited, possibly because of other stages
        self._outcomes: deque[Outcome] = deque()
        self._resources_of: dict[str, Resources] = {}
        self._warm_up: dict[str, float] = {}
        # component to the total seconds and the number of its stages in warm workers
        self._warm_seconds: dict[str, tuple[float, int]] = {}

    # -- which stage next -----------------------------------------------------------------------------------------

    def choose(self, ready: Sequence[Sequence[PlannedStage]]) -> int | None:
        """Index of the first that fits with the running stages, preferring one that needs no further warm-up."""
        cold: int | None = None
        for i, stages in enumerate(ready):
            resources = self._resources(stages)
            if not self._fits(resources):
                continue
            if not self._warmed_elsewhere(stages[0].component, resources):
                return i
            cold = i if cold is None else cold
        if cold is None:
            return None
        component = ready[cold][0].component
        waiting = Counter(stages[0].component for stages in ready)[component]
        return cold if self._worth_warming(component, self._resources(ready[cold]), waiting) else None

    def _resources(self, stages: Sequence[PlannedStage]) -> Resources:
        first = stages[0]
        if first.key not in self._resources_of:
            self._resources_of[first.key] = resources = self._context.resources(first)
            self._warm_up[first.component] = resources.warm_up
        return self._resources_of[first.key]

    def _lane(self, resources: Resources) -> str:
        return "gpu" if self._gpu and resources.gpu else "cpu"

    def _fits(self, resources: Resources) -> bool:
        if self._retries or any(job.retry for job in self._jobs.values()):
            return False
        if not self._jobs:
            return True  # alone, any stage is tried
        if not self._lanes[self._lane(resources)].has_room(resources):
            return False
        return sum(job.memory_gib for job in self._jobs.values()) + resources.memory_gib <= self._memory

    def _warmed_elsewhere(self, component: str, resources: Resources) -> bool:
        """Whether workers are warm for `component` and all of them are busy."""
        if not resources.warm_up or any(component in w.used for w in self._idle[self._lane(resources)]):
            return False
        return any(component in w.used for w in self._jobs)

    def _worth_warming(self, component: str, resources: Resources, waiting: int) -> bool:
        """Whether the waiting stages would take longer in the warm workers than warming up another one."""
        seconds, n = self._warm_seconds.get(component, (0.0, 0))
        if not n:
            return True  # no measurement yet, and an idle core does nothing
        warm = sum(component in w.used for w in self._jobs)
        return waiting * (seconds / n) / warm > resources.warm_up

    # -- the work -------------------------------------------------------------------------------------------------

    def submit(self, stages: Sequence[PlannedStage]) -> None:
        self._queue.append(stages)
        self._start_pending()

    def _start_pending(self) -> None:
        if self._retries and not self._jobs:
            self._start([self._retries.popleft()], retry=True)
        while self._queue and self._fits(self._resources(self._queue[0])):
            self._start(self._queue.popleft())

    def _start(self, stages: Sequence[PlannedStage], *, retry: bool = False) -> None:
        resources, component = self._resources(stages), stages[0].component
        name = self._lane(resources)
        lane, idle = self._lanes[name], self._idle[name]
        for worker in [w for w in idle if not w.process.is_alive()]:  # killed while idle
            idle.remove(worker)
            worker.join()
        # prefer workers that are not warm for another component
        idle.sort(key=lambda w: (bool(resources.warm_up) and component not in w.used, self._warmth(w)))
        worker = idle.pop(0) if idle else Worker(self._context, self._lanes["cpu"].share)
        cores = lane.allocate(resources)
        self._jobs[worker] = _Job(
            {s.key: s for s in stages}, name, cores, resources.memory_gib, component in worker.used, retry
        )
        worker.execute(stages, len(cores), cores if self.pin else None)

    def _warmth(self, worker: Worker) -> float:
        """Total warm-up seconds of a worker's components."""
        return sum(self._warm_up.get(component, 0.0) for component in worker.used)

    def wait(self, listener: Listener) -> Outcome:
        """Wait for the next outcome.

        A stage whose worker exits, or that raises a MemoryError, while other stages run may have failed because of
        their memory. It is tried again alone; a stage that fails alone has failed.
        """
        while not self._outcomes:
            self._start_pending()
            if not self._jobs:
                raise RuntimeError("no stage was submitted")
            wait_for([source for w in self._jobs for source in (w.connection, w.process.sentinel)])
            for worker in list(self._jobs):
                self._receive(worker, listener)
        return self._outcomes.popleft()

    def _receive(self, worker: Worker, listener: Listener) -> None:
        messages, exited = worker.messages()
        for name, arguments in messages:
            if name == "outcome":
                self._handle_outcome(worker, *arguments)
            else:
                getattr(listener, name)(*arguments)
        if exited:
            self._handle_exit(worker)

    def _handle_outcome(self, worker: Worker, outcome: Outcome) -> None:
        job = self._jobs[worker]
        stage = job.pending.pop(outcome.key)
        # raised by PyTorch on a GPU, by NumPy on the host
        out_of_memory = outcome.status == "failed" and "MemoryError" in outcome.error
        if out_of_memory and len(self._jobs) > 1 and not job.retry:
            self._retries.append(stage)
        else:
            self._outcomes.append(outcome)
        if job.warm and outcome.status == "finished":
            seconds, n = self._warm_seconds.get(stage.component, (0.0, 0))
            self._warm_seconds[stage.component] = (seconds + outcome.seconds, n + 1)
        if not job.pending:
            self._release(worker)
            self._idle[job.lane].append(worker)

    def _release(self, worker: Worker) -> _Job:
        job = self._jobs.pop(worker)
        self._lanes[job.lane].release(job.cores)
        return job

    def _handle_exit(self, worker: Worker) -> None:
        """Retry the stages of a worker that has exited, or record their failure."""
        reason = worker.exit_reason()
        for idle in self._idle.values():
            if worker in idle:
                idle.remove(worker)
        if worker in self._jobs:
            concurrent = len(self._jobs) > 1
            job = self._release(worker)
            if concurrent or len(job.pending) > 1:
                self._retries += job.pending.values()
            else:
                text = f"the worker process died: it {reason}"
                self._outcomes += [Outcome(key, "failed", error=text) for key in job.pending]
        worker.dismiss()
        worker.join()

    def stop(self) -> None:
        idle = [w for workers in self._idle.values() for w in workers]
        for worker in idle:
            worker.dismiss()
        for worker in self._jobs:
            worker.terminate()
        for worker in [*idle, *self._jobs]:
            worker.join()
        self._idle.clear()
        self._jobs.clear()
