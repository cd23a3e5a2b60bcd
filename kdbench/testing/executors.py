"""Conformance checks of executors."""

from __future__ import annotations

from collections import Counter

from kdbench.testing.check import Check, check
from kdbench.testing.fixtures.executors import ExecutedPlan, ExecutorFixture, leftovers
from kdbench.testing.outcome import Violation


@check(
    "executors",
    "execute what is submitted by context.workplace().execute(stages, listener), and nothing else",
)
def same_as_serial(fixture: ExecutorFixture) -> None:
    """A plan ends with the same files, bit by bit, and the same numbers as with the serial executor."""
    ours, theirs = fixture.executed, fixture.serial
    if set(ours.files()) != set(theirs.files()):
        missing = len(set(theirs.files()) - set(ours.files()))
        errors = [s.error.strip().splitlines()[-1] for s in ours.report.failed if s.error]
        raise Violation(
            f"{missing} stages that the serial executor finishes are not there; it failed with {errors[:2]}"
        )
    titles = {key: stage.title for key, stage in fixture.plan.stages.items()}
    for key, files in theirs.files().items():
        if ours.files()[key] != files:
            names = [n for n in files if ours.files()[key].get(n) != files[n]]
            raise Violation(
                f"{titles.get(key, key)}: {', '.join(names)} differs from what the serial executor leaves"
            )
    if _numbers(ours) != _numbers(theirs):
        raise Violation("the records of cells differ from those of the serial executor")


@check("executors", "return from wait exactly one Outcome for every stage that was submitted")
def one_outcome_a_stage(fixture: ExecutorFixture) -> None:
    """Every stage that is submitted has one outcome, of its own key, "finished", "cached" or "failed"."""
    recorded = fixture.executed.recorded
    submitted, said = Counter(recorded.submitted), Counter(o.key for o in recorded.outcomes)
    if submitted != said:
        raise Violation(f"{submitted.total()} stages were submitted, {said.total()} outcomes came")
    if odd := [o.status for o in recorded.outcomes if o.status not in ("finished", "cached", "failed")]:
        raise Violation(f"an outcome's status is {odd[0]!r}")


@check(
    "executors",
    "pass on the outcomes of Workplace.execute as they are, failed ones too; load the context's plugins",
)
def failed_stage_is_an_outcome(fixture: ExecutorFixture) -> None:
    """A stage of a one-file plugin that raises ends as "failed" with its traceback, and the others go on."""
    failed = [o for o in fixture.executed.recorded.outcomes if o.status == "failed"]
    if not failed:
        raise Violation("a stage whose reducer raises has no outcome with status 'failed'")
    for outcome in failed:
        if "this reducer fails on purpose" not in outcome.error:
            last = outcome.error.strip().splitlines()[-1:] or ["nothing"]
            raise Violation(f"a reducer raised RuntimeError, and the outcome's error ends with: {last[0]}")


@check("executors", "set slots in __init__ or start to the number of bundles at once, 1 or more")
def slots(fixture: ExecutorFixture) -> None:
    """After `start`, `slots` says how many bundles may be under way, one or more."""
    found = fixture.executed.recorded.slots
    if not isinstance(found, int) or found < 1:
        raise Violation(f"slots is {found!r}; a whole number from 1 is expected")


@check("executors", "end and join in stop every process and thread that was started")
def stop_leaves_nothing_behind(fixture: ExecutorFixture) -> None:
    """After `stop` no process and no thread of its own is left."""
    if fixture.executed.left:
        raise Violation(f"still there after stop: {', '.join(fixture.executed.left)}")


@check("executors", "start processes when there is work, and let stop do with what there is")
def stops_without_work(fixture: ExecutorFixture) -> None:
    """One that was started and given nothing stops, and leaves nothing behind."""
    with leftovers() as left:
        executor = fixture.make()
        executor.start(fixture.context("idle"))
        executor.stop()
    if left:
        raise Violation(f"still there after stop: {', '.join(left)}")


@check("executors", "only store in the constructor; begin in start")
def constructor_starts_nothing(fixture: ExecutorFixture) -> None:
    """Making an instance, which planning does to check its parameters, starts no process and no thread."""
    with leftovers() as left:
        fixture.make()
    if left:
        raise Violation(f"the constructor started {', '.join(left)}")


def _numbers(run: ExecutedPlan) -> dict[str, object]:
    """What the records of cells say, but for how long it took."""
    return {
        cell.key: (cell.status, [r for r in cell.results if r.value_name != "seconds"])
        for cell in run.report.cells
    }


CHECKS: tuple[Check, ...] = (
    same_as_serial,
    one_outcome_a_stage,
    failed_stage_is_an_outcome,
    slots,
    stop_leaves_nothing_behind,
    stops_without_work,
    constructor_starts_nothing,
)
