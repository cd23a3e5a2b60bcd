"""What constructors ask of their parameters: ValueError with the parameter, its value and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence


def positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name}={value!r}: a positive number")
    return value


def not_negative(name: str, value: float) -> float:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name}={value!r}: 0 or a positive number")
    return value


def share(name: str, value: float) -> float:
    """From 0 to 1, both included."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value!r}: a number from 0 to 1")
    return value


def decay(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError(f"{name}={value!r}: at least 0 and below 1")
    return value


def at_least(name: str, value: int, low: int) -> int:
    if value < low:
        raise ValueError(f"{name}={value!r}: at least {low}")
    return value


def one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise ValueError(f"{name}={value!r}: " + " or ".join(map(repr, allowed)))
    return value
