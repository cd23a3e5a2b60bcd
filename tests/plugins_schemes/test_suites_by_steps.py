"""Suites that train for a fixed number of steps: nobody's epoch is broken off before it comes to its teacher."""

from __future__ import annotations

import math

import pytest

from kdbench.suite.load import load_suite


@pytest.mark.parametrize("scale", ["quick", "small", "paper"])
@pytest.mark.parametrize("name", ["schemes", "fixmatch-comparison"])
def test_the_cyclical_update_sees_its_teacher(name, scale):
    """It passes over all labelled images before the first unlabelled one, unless batches alternate."""
    suite = load_suite(name, scale=scale).suite
    (kl,) = (s for s in suite.schemes if s.name == "kl")
    student = suite.student
    if student.steps and kl.params.get("alternation", "epoch") == "epoch":
        labelled = math.ceil(max(suite.data.budgets) / student.batch_size)
        assert student.steps // student.epochs > labelled
