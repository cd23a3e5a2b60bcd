"""Conformance checks for components.

    from kdbench.testing import parametrize_with_checks

    @parametrize_with_checks(["reducers/my-reducer"])
    def test_conformance(check):
        check()

Each check is a test of its own, by name; one that fails says what to change. `run_checks` gives the findings as
data, and `kdbench plugins check reducers/my-reducer` prints them.

What a component can't or need not do is said in `expected_failed_checks`, check to reason, as a parameter here or as
an attribute of the component; such a check has to fail (a strict xfail).
"""

from kdbench.testing.check import Check
from kdbench.testing.outcome import Finding, NotApplicable, Violation
from kdbench.testing.run import BoundCheck, checks_for, parametrize_with_checks, run_checks
from kdbench.testing.target import KINDS, Target, find_targets

__all__ = [
    "KINDS",
    "BoundCheck",
    "Check",
    "Finding",
    "NotApplicable",
    "Target",
    "Violation",
    "checks_for",
    "find_targets",
    "parametrize_with_checks",
    "run_checks",
]
