"""What a conformance check can say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["kept", "broken", "expected", "not applicable"]


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
        "kept"; "broken"; "expected": broken, and somebody said so beforehand; "not applicable".
    sentence
        What is wrong, or why there is nothing to check; "" where the contract is kept.
    hint
        What to change; "" unless broken.
    """

    check: str
    status: Status
    sentence: str = ""
    hint: str = ""
