"""What an invocation leaves in the tracking store when nothing is left to execute."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from synthetic_cells import cell

from kdbench.api.records import RunSummary
from kdbench.session.observers import Tracking
from kdbench.tracking import Tracker

RUN = RunSummary(
    id="20261121-101500-ab12cd", suite="demo", scale="quick", seed=0, stages=3, cells=2, workspace="w"
)


@pytest.fixture
def logged(workspace) -> Tracker:
    """A store that has one cell."""
    tracker = Tracker(None, workspace)
    tracker.sync([cell("kl")])
    return tracker


def parents(tracker: Tracker) -> list:
    experiment = tracker.client.get_experiment_by_name("kdbench/demo")
    return tracker.client.search_runs([experiment.experiment_id], "tags.`kdbench.kind` = 'run'")


def tell(tracking: Tracking, *records, status: str = "finished") -> None:
    tracking.run_started(RUN)
    for record in records:
        tracking.cell_finished(RUN, record)
    tracking.run_finished(replace(RUN, status=status))
    assert tracking.failure is None


def test_an_invocation_that_finds_everything_logged_leaves_no_run(logged):
    tell(Tracking(logged, idle=True), cell("kl"))
    assert parents(logged) == []


def test_the_first_cell_that_is_not_there_begins_a_run_that_knows_the_others(logged):
    tell(Tracking(logged, idle=True), cell("kl"), cell("undistilled"), cell("kl"))
    (parent,) = parents(logged)
    assert parent.data.metrics["cells/finished"] == 3
    assert parent.data.metrics["cells/found"] == 2
    assert parent.info.status == "FINISHED"


def test_a_failed_cell_is_never_taken_for_logged(logged):
    broken = replace(cell("kl"), status="failed", error="ValueError: x")
    tell(Tracking(logged, idle=True), broken)
    assert len(parents(logged)) == 1


def test_an_interruption_is_told(logged):
    tell(Tracking(logged, idle=True), cell("kl"), status="interrupted")
    (parent,) = parents(logged)
    assert parent.info.status == "KILLED"


def test_a_stage_that_is_executed_after_all_begins_a_run(logged):
    tracking = Tracking(logged, idle=True)
    tracking.run_started(RUN)
    tracking.stage_started(SimpleNamespace(title="a stage whose artifact was removed"))
    assert len(parents(logged)) == 1


def test_with_work_to_do_a_run_is_begun_at_once(logged):
    Tracking(logged).run_started(RUN)
    assert len(parents(logged)) == 1


def test_a_store_that_is_gone_is_told_at_the_end(workspace):
    tracking = Tracking(Tracker("http://127.0.0.1:9", workspace), idle=True)
    tracking.run_started(RUN)
    tracking.cell_finished(RUN, cell("kl"))
    tracking.run_finished(replace(RUN, status="finished"))
    assert "kdbench track sync" in str(tracking.failure)
