"""Suites with a fixed number of steps: every training includes complete passes with the teacher."""

from __future__ import annotations

import math

import pytest

from kdbench.suite.load import load_suite


@pytest.mark.parametrize("scale", ["quick", "small", "paper"])
@pytest.mark.parametrize("name", ["schemes", "fixmatch-comparison"])
def test_cyclical_update_includes_unlabelled_pass(name, scale):
    """All labelled images come before the first unlabelled image, unless batches alternate."""
    suite = load_suite(name, scale=scale).suite
    (kl,) = (s for s in suite.schemes if s.name == "kl")
    student = suite.student
    if student.steps and kl.params.get("alternation", "epoch") == "epoch":
        labelled = math.ceil(max(suite.data.budgets) / student.batch_size)
        assert student.steps // student.epochs > labelled
