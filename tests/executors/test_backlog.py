"""Which stages are ready, and in what order."""

from __future__ import annotations

from executor_places import stage

from kdbench.executors import Backlog


class Chooses:
    """An executor that takes what it is told to."""

    slots = 1

    def __init__(self, *answers: int | None) -> None:
        self.answers = list(answers)
        self.offered: list[list[str]] = []

    def choose(self, ready):
        self.offered.append([s.title for bundle in ready for s in bundle])
        return self.answers.pop(0)


class First:
    slots = 1


def test_what_is_needed_comes_first_and_the_plans_order_holds():
    a, b = stage("a"), stage("b")
    c, d = stage("c", after=[a]), stage("d", after=[a, b])
    backlog, taken = Backlog([a, c, b, d]), []
    while bundle := backlog.take_bundle(First(), idle=True):
        taken.append(bundle[0].title)
        backlog.settled(bundle[0].key)
    assert taken == ["a", "c", "b", "d"]  # c became ready after b, and stands before it
    assert not backlog


def test_what_others_do_is_not_waited_for():
    done = stage("done")
    backlog = Backlog([stage("a", after=[done])])
    assert [s.title for s in backlog.take_bundle(First(), idle=True)] == ["a"]


def test_an_executor_may_choose_or_wait():
    stages = [stage(name) for name in "abc"]
    backlog, executor = Backlog(stages), Chooses(1, None, None)
    assert [s.title for s in backlog.take_bundle(executor, idle=True)] == ["b"]
    assert backlog.take_bundle(executor, idle=False) == ()
    # with nothing under way there is nothing to wait for
    assert [s.title for s in backlog.take_bundle(executor, idle=True)] == ["a"]
    assert executor.offered == [["a", "b", "c"], ["a", "c"], ["a", "c"]]


def test_what_needs_something_that_failed_is_lost_and_so_is_what_needs_that():
    a, b = stage("a"), stage("b")
    c = stage("c", after=[a])
    d = stage("d", after=[c, b])
    backlog, failed = Backlog([a, b, c, d]), set()
    (first,) = backlog.take_bundle(First(), idle=True)
    failed.add(first.key)
    backlog.settled(first.key)
    lost = backlog.take_lost(failed)
    assert lost is c
    failed.add(c.key)
    backlog.settled(c.key)
    assert backlog.take_lost(failed) is None  # d waits for b
    (second,) = backlog.take_bundle(First(), idle=True)
    backlog.settled(second.key)
    assert backlog.take_lost(failed) is d
    assert not backlog
