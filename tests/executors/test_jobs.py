"""The number of jobs that `--jobs auto` stands for."""

from __future__ import annotations

import pytest
from executor_places import stage

from kdbench.executors.jobs import choose_jobs, concurrent


def test_concurrent_counts_the_largest_level_of_independent_stages():
    a, b = stage("a"), stage("b")
    users = [stage(f"u{i}", after=[a]) for i in range(5)]
    assert concurrent([]) == 0
    assert concurrent([a, stage("c", after=[a])]) == 1
    assert concurrent([a, b, *users]) == 5
    assert concurrent(users) == 5  # the stage that they need is cached


@pytest.mark.parametrize(
    ("stages", "device", "cores", "jobs"),
    [
        (0, "cpu", 2, 1),
        (20, "cpu", 1, 1),
        (20, "cpu", 2, 2),
        (20, "cpu", 4, 4),
        (20, "cpu", 6, 4),
        (20, "cpu", 16, 8),
        (3, "cpu", 16, 3),
        (20, "cuda", 16, 4),
        (20, "cuda:1", 2, 2),
    ],
)
def test_jobs_follow_from_cores_device_and_independent_stages(stages, device, cores, jobs):
    chosen, sentence = choose_jobs([stage(f"s{i}") for i in range(stages)], device=device, cores=cores)
    assert chosen == jobs
    assert sentence.startswith(f"jobs: {jobs} ({cores} core")
