"""Several stages at once, each in a worker process that is kept warm."""

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
    """A bundle that a worker is at work on. `left`: its stages whose outcomes have not come."""

    left: dict[str, PlannedStage]
    lane: str
    cores: tuple[int, ...]
    memory_gib: float
    warm: bool  #: its worker had executed the component before
    retry: bool  #: it has the machine for itself


class ProcessExecutor:
    """Worker processes that share the machine.

    Cores are cut into `n_jobs` shares. A stage that uses several cores gets a share, one that does not gets one
    core, and each stays on the cores that it got. Beside a GPU, `n_jobs` stages share it and stages that do not
    use it run on the other cores. Stages that would not fit into the memory together wait for each other. A
    component that takes long to warm up is sent to a worker where it is warm.

    How many threads a stage has is the only way in which its results may depend on `n_jobs`: sums over several
    threads are rounded in another order.

    Args:
        n_jobs: shares. More than there are cores is possible and slow.
        pin: keep stages on their own cores. Without it, the system places their threads.
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
        self.slots = sum(lane.places for lane in self._lanes.values())
        self._memory = context.memory_gib()
        self._idle: dict[str, list[Worker]] = defaultdict(list)
        self._jobs: dict[Worker, _Job] = {}
        self._queue: deque[Sequence[PlannedStage]] = deque()  # submitted, no room yet
        self._again: deque[PlannedStage] = deque()  # their worker died, maybe not of them
        self._outcomes: deque[Outcome] = deque()
        self._asked: dict[str, Resources] = {}
        self._warm_up: dict[str, float] = {}
        self._warm_seconds: dict[str, tuple[float, int]] = {}  # of stages in warm workers, and how many

    # -- which stage next -----------------------------------------------------------------------------------------

    def choose(self, ready: Sequence[Sequence[PlannedStage]]) -> int | None:
        """The first that fits beside what is under way; rather one that need not warm up a second worker."""
        cold: int | None = None
        for i, stages in enumerate(ready):
            asked = self._resources(stages)
            if not self._fits(asked):
                continue
            if not self._warmed_elsewhere(stages[0].component, asked):
                return i
            cold = i if cold is None else cold
        if cold is None:
            return None
        component = ready[cold][0].component
        waiting = Counter(stages[0].component for stages in ready)[component]
        return cold if self._worth_warming(component, self._resources(ready[cold]), waiting) else None

    def _resources(self, stages: Sequence[PlannedStage]) -> Resources:
        first = stages[0]
        if first.key not in self._asked:
            self._asked[first.key] = asked = self._context.resources(first)
            self._warm_up[first.component] = asked.warm_up
        return self._asked[first.key]

    def _lane(self, asked: Resources) -> str:
        return "gpu" if self._gpu and asked.gpu else "cpu"

    def _fits(self, asked: Resources) -> bool:
        if self._again or any(job.retry for job in self._jobs.values()):
            return False
        if not self._jobs:
            return True  # alone it is tried whatever it asks for
        if not self._lanes[self._lane(asked)].has_room(asked):
            return False
        return sum(job.memory_gib for job in self._jobs.values()) + asked.memory_gib <= self._memory

    def _warmed_elsewhere(self, component: str, asked: Resources) -> bool:
        """Whether workers are warm for it and all of them busy."""
        if not asked.warm_up or any(component in w.used for w in self._idle[self._lane(asked)]):
            return False
        return any(component in w.used for w in self._jobs)

    def _worth_warming(self, component: str, asked: Resources, waiting: int) -> bool:
        """Whether what waits for the warm workers takes longer than to warm up another one."""
        seconds, n = self._warm_seconds.get(component, (0.0, 0))
        if not n:
            return True  # not known yet; a core that waits does nothing at all
        warm = sum(component in w.used for w in self._jobs)
        return waiting * (seconds / n) / warm > asked.warm_up

    # -- the work -------------------------------------------------------------------------------------------------

    def submit(self, stages: Sequence[PlannedStage]) -> None:
        self._queue.append(stages)
        self._begin_what_fits()

    def _begin_what_fits(self) -> None:
        if self._again and not self._jobs:
            self._begin([self._again.popleft()], retry=True)
        while self._queue and self._fits(self._resources(self._queue[0])):
            self._begin(self._queue.popleft())

    def _begin(self, stages: Sequence[PlannedStage], *, retry: bool = False) -> None:
        asked, component = self._resources(stages), stages[0].component
        name = self._lane(asked)
        lane, idle = self._lanes[name], self._idle[name]
        for worker in [w for w in idle if not w.process.is_alive()]:  # killed while it had nothing to do
            idle.remove(worker)
            worker.join()
        # what is warm for another component is left to that one where there is a choice
        idle.sort(key=lambda w: (bool(asked.warm_up) and component not in w.used, self._warmth(w)))
        worker = idle.pop(0) if idle else Worker(self._context, self._lanes["cpu"].share)
        cores = lane.take(asked)
        self._jobs[worker] = _Job(
            {s.key: s for s in stages}, name, cores, asked.memory_gib, component in worker.used, retry
        )
        worker.execute(stages, len(cores), cores if self.pin else None)

    def _warmth(self, worker: Worker) -> float:
        """Seconds of warming up that went into a worker."""
        return sum(self._warm_up.get(component, 0.0) for component in worker.used)

    def wait(self, listener: Listener) -> Outcome:
        """The next outcome.

        A stage whose worker dies while others are at work may have died of what they took (memory, mostly), as one
        that ends in a MemoryError. It is tried again with the machine for itself; one that dies alone has failed.
        """
        while not self._outcomes:
            self._begin_what_fits()
            if not self._jobs:
                raise RuntimeError("nothing was submitted that could be waited for")
            signs = [sign for w in self._jobs for sign in (w.connection, w.process.sentinel)]
            wait_for(signs)
            for worker in list(self._jobs):
                self._listen(worker, listener)
        return self._outcomes.popleft()

    def _listen(self, worker: Worker, listener: Listener) -> None:
        said, ended = worker.messages()
        for what, about in said:
            if what == "outcome":
                self._take(worker, *about)
            else:
                getattr(listener, what)(*about)
        if ended:
            self._bury(worker)

    def _take(self, worker: Worker, outcome: Outcome) -> None:
        job = self._jobs[worker]
        stage = job.left.pop(outcome.key)
        # an error of PyTorch on a GPU, of NumPy on the host
        short = outcome.status == "failed" and "MemoryError" in outcome.error
        if short and len(self._jobs) > 1 and not job.retry:
            self._again.append(stage)
        else:
            self._outcomes.append(outcome)
        if job.warm and outcome.status == "finished":
            seconds, n = self._warm_seconds.get(stage.component, (0.0, 0))
            self._warm_seconds[stage.component] = (seconds + outcome.seconds, n + 1)
        if not job.left:
            self._free(worker)
            self._idle[job.lane].append(worker)

    def _free(self, worker: Worker) -> _Job:
        job = self._jobs.pop(worker)
        self._lanes[job.lane].give_back(job.cores)
        return job

    def _bury(self, worker: Worker) -> None:
        """A worker has ended; what it was at work on is tried again, or has failed."""
        how = worker.how_it_ended()
        for idle in self._idle.values():
            if worker in idle:
                idle.remove(worker)
        if worker in self._jobs:
            company = len(self._jobs) > 1
            job = self._free(worker)
            if company or len(job.left) > 1:
                self._again += job.left.values()
            else:
                text = f"the worker process died: it {how}"
                self._outcomes += [Outcome(key, "failed", error=text) for key in job.left]
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
