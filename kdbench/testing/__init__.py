"""Conformance checks: what must hold of every component of a kind, to be run on plugins.

    from kdbench.registry import Registry
    from kdbench.testing import SCHEME_CHECKS, SchemeBench

    bench = SchemeBench("my-scheme", Registry.discover())
    for check in SCHEME_CHECKS:
        check(bench)

A check is a plain function. It returns where all is well, raises `Violation` with a sentence that says what is
wrong, and `NotApplicable` where there is nothing to check. `check_scheme` runs them all and reports.
"""

from kdbench.testing.bench import SchemeBench
from kdbench.testing.outcome import Finding, NotApplicable, Violation
from kdbench.testing.schemes import SCHEME_CHECKS, check_scheme

__all__ = ["SCHEME_CHECKS", "Finding", "NotApplicable", "SchemeBench", "Violation", "check_scheme"]
