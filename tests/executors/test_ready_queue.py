"""Which stages are ready, and in what order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from executor_places import stage

from kdbench.executors import ReadyQueue
from kdbench.executors.ready_queue import TOGETHER


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
    queue, taken = ReadyQueue([a, c, b, d]), []
    while bundle := queue.take_bundle(First(), idle=True):
        taken.append(bundle[0].title)
        queue.settled(bundle[0].key)
    assert taken == ["a", "c", "b", "d"]  # c became ready after b, and stands before it
    assert not queue


def test_what_others_do_is_not_waited_for():
    done = stage("done")
    queue = ReadyQueue([stage("a", after=[done])])
    assert [s.title for s in queue.take_bundle(First(), idle=True)] == ["a"]


def test_an_executor_may_choose_or_wait():
    stages = [stage(name) for name in "abc"]
    queue, executor = ReadyQueue(stages), Chooses(1, None, None)
    assert [s.title for s in queue.take_bundle(executor, idle=True)] == ["b"]
    assert queue.take_bundle(executor, idle=False) == ()
    # with nothing under way there is nothing to wait for
    assert [s.title for s in queue.take_bundle(executor, idle=True)] == ["a"]
    assert executor.offered == [["a", "b", "c"], ["a", "c"], ["a", "c"]]


def test_what_needs_something_that_failed_is_lost_and_so_is_what_needs_that():
    a, b = stage("a"), stage("b")
    c = stage("c", after=[a])
    d = stage("d", after=[c, b])
    queue, failed = ReadyQueue([a, b, c, d]), set()
    (first,) = queue.take_bundle(First(), idle=True)
    failed.add(first.key)
    queue.settled(first.key)
    lost = queue.take_lost(failed)
    assert lost is c
    failed.add(c.key)
    queue.settled(c.key)
    assert queue.take_lost(failed) is None  # d waits for b
    (second,) = queue.take_bundle(First(), idle=True)
    queue.settled(second.key)
    assert queue.take_lost(failed) is d
    assert not queue


@pytest.mark.parametrize(("slots", "sizes"), [(1, [5, 1]), (2, [3, 2, 1]), (9, [1] * 6)])
def test_stages_that_do_well_together_are_dealt_out_to_the_slots(slots, sizes):
    group = [replace(stage(name), coschedule="teacher") for name in "abcde"]
    executor = First()
    executor.slots = slots
    queue = ReadyQueue([*group[:2], stage("alone"), *group[2:]])
    taken = []
    while bundle := queue.take_bundle(executor, idle=True):
        taken.append([s.title for s in bundle])
    assert sorted((len(t) for t in taken), reverse=True) == sizes
    assert sorted(t for bundle in taken for t in bundle) == ["a", "alone", "b", "c", "d", "e"]
    assert ["alone"] in taken


def test_a_group_is_no_larger_than_what_fits_beside_each_other():
    queue = ReadyQueue([replace(stage(str(i)), coschedule="teacher") for i in range(TOGETHER + 3)])
    sizes = []
    while bundle := queue.take_bundle(First(), idle=True):
        sizes.append(len(bundle))
    assert sizes == [TOGETHER, 3]


def test_a_bundle_takes_one_slot_until_its_last_stage_has_ended():
    executor = First()
    executor.slots = 2
    queue = ReadyQueue([replace(stage(name), coschedule="teacher") for name in "abcd"])
    bundles = [queue.take_bundle(executor, idle=not queue.under_way) for _ in range(2)]
    assert [len(bundle) for bundle in bundles] == [2, 2]
    assert queue.under_way == 2
    queue.settled(bundles[0][0].key)
    assert queue.under_way == 2
    queue.settled(bundles[0][1].key)
    assert queue.under_way == 1
