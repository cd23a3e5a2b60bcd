"""Checks of constructor parameters: a ValueError names the parameter, its value and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any


def choice(name: str, value: Any, allowed: Collection[Any]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}={value!r}: allowed are {', '.join(repr(a) for a in allowed)}")


def whole(name: str, value: Any, low: int, high: int | None = None) -> None:
    fits = isinstance(value, Integral) and not isinstance(value, bool)
    if not fits or value < low or (high is not None and value > high):
        limits = f"at least {low}" if high is None else f"{low} to {high}"
        raise ValueError(f"{name}={value!r}: allowed are whole numbers, {limits}")


def number(name: str, value: Any, low: float, *, open_end: bool = False) -> None:
    """`value` is a finite number >= low, or > low where `open_end`."""
    fits = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or value < low or (open_end and value == low):
        raise ValueError(
            f"{name}={value!r}: allowed are finite numbers {'above' if open_end else 'from'} {low:g}"
        )


def seed(value: Any) -> None:
    if value is not None:
        whole("random_state", value, 0, 2**32 - 1)


def components(value: Any) -> None:
    """The parameter `pca`."""
    if value is not None:
        whole("pca", value, 1)


def jobs(value: Any) -> None:
    if value is not None and value != -1:
        try:
            whole("n_jobs", value, 1)
        except ValueError:
            raise ValueError(
                f"n_jobs={value!r}: allowed are None (as the process is set), -1 (all), or 1, 2, ..."
            ) from None
