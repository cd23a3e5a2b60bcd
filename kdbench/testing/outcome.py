"""Outcomes of conformance checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["passed", "failed", "expected", "not applicable"]


class Violation(AssertionError):
    """A component does not do what its contract says."""


class NotApplicable(Exception):
    """There is nothing to check: the component has no such part."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes
    ----------
    check
        Its name.
    status
        "passed"; "failed"; "expected": it failed, as `expected_failed_checks` says; "not applicable".
    sentence
        What is wrong, or why there is nothing to check; "" if it passed.
    hint
        What to change; "" unless it failed.
    """

    check: str
    status: Status
    sentence: str = ""
    hint: str = ""
