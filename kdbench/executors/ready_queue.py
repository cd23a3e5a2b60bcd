"""Queue of the stages that are still to be executed, by what they wait for."""

from __future__ import annotations

from bisect import insort
from collections.abc import Container, Sequence

from kdbench.api.protocols import Executor
from kdbench.plan import Stage

#: Students that take turns at most: each holds its images, its weights and its activations.
TOGETHER = 8


class ReadyQueue:
    """Outstanding stages, in the plan's order. What they need and is not among them is done.

    A stage is ready when all that it needs is settled: finished, or failed for good.
    """

    def __init__(self, outstanding: Sequence[Stage]) -> None:
        self._stages = {stage.key: stage for stage in outstanding}
        self._place = {key: i for i, key in enumerate(self._stages)}
        self._missing: dict[str, int] = {}
        self._users: dict[str, list[str]] = {key: [] for key in self._stages}
        for stage in outstanding:
            needed = {key for key in stage.needs() if key in self._stages}
            self._missing[stage.key] = len(needed)
            for key in needed:
                self._users[key].append(stage.key)
        self._ready = [self._place[key] for key, n in self._missing.items() if not n]
        self._order = list(self._stages.values())
        self._sizes: dict[str, int] = {}  # of a group's bundles, from when it was first ready
        #: of each stage under way what is left of its bundle, one set for all of a bundle's
        self._under_way: dict[str, set[str]] = {}

    def __len__(self) -> int:
        """Stages that have not been taken."""
        return len(self._stages)

    @property
    def under_way(self) -> int:
        """Bundles that were taken and not all of whose stages have ended."""
        return len({id(left) for left in self._under_way.values()})

    def settled(self, key: str) -> None:
        """A stage that was taken has ended, well or not."""
        self._under_way.pop(key, set()).discard(key)
        for user in self._users[key]:
            self._missing[user] -= 1
            if not self._missing[user]:
                insort(self._ready, self._place[user])

    def take_lost(self, failed: Container[str]) -> Stage | None:
        """Take the first stage that is ready though something that it needs has failed; None if there is none."""
        for place in self._ready:
            if any(key in failed for key in self._order[place].needs()):
                return self._take([self._order[place]])[0]
        return None

    def take_bundle(self, executor: Executor, *, idle: bool) -> Sequence[Stage]:
        """Take what `executor` chooses to execute next; nothing where it rather waits or nothing is ready.

        Parameters
        ----------
        executor
            The executor that will run the stages.
        idle
            Nothing is under way, so that there is nothing to wait for.

        Returns
        -------
        list of Stage
            Stages to run in turns; empty if none is ready.
        """
        bundles = self._bundles(executor.slots)
        if not bundles:
            return ()
        choose = getattr(executor, "choose", None)
        chosen = choose(bundles) if choose else 0
        if chosen is None and not idle:
            return ()
        taken = self._take(bundles[chosen or 0])
        left = {stage.key for stage in taken}
        self._under_way |= dict.fromkeys(left, left)
        return taken

    def _bundles(self, slots: int) -> list[tuple[Stage, ...]]:
        """The stages that are ready, those in a bundle that one process does well to execute in turns: students of
        a live teacher look at one teacher pass a batch. A group is dealt out evenly to the slots there are."""
        groups: dict[str, list[Stage]] = {}
        for place in self._ready:
            stage = self._order[place]
            groups.setdefault(stage.coschedule or stage.key, []).append(stage)
        bundles = []
        for name, group in groups.items():
            size = self._sizes.setdefault(name, min(TOGETHER, -(-len(group) // slots)))
            bundles += [tuple(group[i : i + size]) for i in range(0, len(group), size)]
        return bundles

    def _take(self, bundle: Sequence[Stage]) -> Sequence[Stage]:
        for stage in bundle:
            self._ready.remove(self._place[stage.key])
            del self._stages[stage.key]
        return bundle
