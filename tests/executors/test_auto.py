"""How many jobs `--jobs auto` chooses, and that it measures."""

from __future__ import annotations

import dataclasses

import pytest
from executor_places import stage

from kdbench.errors import PluginError
from kdbench.executors.auto import best, choose_jobs, concurrent, numbers, probe_of
from kdbench.executors.probe import Measured, measure


def test_how_many_stages_can_run_side_by_side():
    a, b = stage("a"), stage("b")
    users = [stage(f"u{i}", after=[a]) for i in range(5)]
    assert concurrent([]) == 0
    assert concurrent([a, stage("c", after=[a])]) == 1
    assert concurrent([a, b, *users]) == 5
    assert concurrent(users) == 5  # what they need is done


def test_the_fewest_workers_that_are_about_as_fast_as_any():
    def of(**speeds: float) -> dict[int, Measured]:
        return {int(n[1:]): Measured(speed, 1.0) for n, speed in speeds.items()}

    assert numbers(1) == [1]
    assert numbers(6) == [1, 2, 4, 6]
    assert numbers(16) == [1, 2, 4, 8, 16]
    assert best(of(n1=10.0, n2=10.4)) == 1  # within the noise
    assert best(of(n1=10.0, n2=14.0, n4=14.5)) == 2
    assert best(of(n1=10.0, n2=14.0, n4=20.0)) == 4


WIDE = ("data.folds=3", "student.batch_size=8")


@pytest.fixture
def choose(tiny_plan, tiny_data, plain_registry, tmp_path):
    def choose(*overrides: str, kinds: tuple[str, ...] = (), **more):
        plan = tiny_plan(*overrides)
        stages = [s for s in plan.stages.values() if not kinds or s.kind in kinds]
        defaults = {"device": "cpu", "cores": (0,), "seconds": 1e4, "cache": tmp_path / "cache"}
        return choose_jobs(plan, stages, plain_registry, tiny_data, **{**defaults, **more})

    return choose


def test_what_needs_no_measurement_is_not_measured(choose, tmp_path):
    assert choose("data.folds=3", seconds=5).sentence.startswith("jobs: 1 (about 5 s of work")
    chain = choose('schemes=["undistilled"]', 'metrics=["accuracy"]', kinds=("teacher", "targets"))
    assert chain.jobs == 1
    assert "depend on each other" in chain.sentence
    scores = choose("data.folds=3", kinds=("score",), cores=(0, 1))
    assert scores.jobs == 2
    assert "no student to train" in scores.sentence
    assert not (tmp_path / "cache").exists()


def test_it_measures_once(choose, tmp_path, monkeypatch):
    monkeypatch.setattr("kdbench.executors.probe.SECONDS", 0.1)
    first = choose(*WIDE)
    assert first.jobs == 1  # there is one core
    assert "measured now" in first.sentence
    (kept,) = (tmp_path / "cache").iterdir()
    before = kept.stat().st_mtime_ns
    again = choose(*WIDE)
    assert "measured before" in again.sentence
    assert again.jobs == first.jobs
    assert kept.stat().st_mtime_ns == before
    # with what two workers would have come to, there and twice as fast, two are chosen; a narrow plan has one
    import json

    told = json.loads(kept.read_text())
    told["2"] = {**told["1"], "steps_per_second": 2 * told["1"]["steps_per_second"]}
    kept.write_text(json.dumps(told))
    assert choose(*WIDE).jobs == 2
    told["2"]["host_gib"] = told["1"]["host_gib"] = 1e6
    kept.write_text(json.dumps(told))
    assert choose(*WIDE).jobs == 1  # two would not fit into the memory


def test_workers_are_timed_at_the_same_time(tiny_plan, tiny_data, plain_registry):
    probe = probe_of(tiny_plan("student.batch_size=8"), tiny_data, plain_registry, device="cpu", cores=(0,))
    measured = measure(probe, [1, 2, 4], fits=lambda n, alone: n < 3, seconds=0.2)
    assert set(measured) == {1, 2}
    assert all(m.steps_per_second > 0 and 0.05 < m.host_gib < 8 for m in measured.values())


def test_a_network_that_can_t_be_trained_is_told(tiny_plan, tiny_data, plain_registry):
    probe = probe_of(tiny_plan("student.batch_size=8"), tiny_data, plain_registry, device="cpu", cores=(0,))
    broken = dataclasses.replace(probe, params={"depth": 11})
    with pytest.raises(PluginError, match="can't be timed") as caught:
        measure(broken, [1])
    assert "depth" in caught.value.what
    assert caught.value.hint == "give --jobs a number"
