"""Checks for the constructor parameters of components.

Each function returns the value that it accepts. It raises ``ValueError`` with the parameter's name, the value and
what is allowed; kdbench reports that as an error in the suite.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any, TypeVar

T = TypeVar("T")

_COMPARE: dict[str, Any] = {
    "at least": operator.ge,
    "above": operator.gt,
    "at most": operator.le,
    "below": operator.lt,
}


def check_choice(name: str, value: T, allowed: Collection[T]) -> T:
    """Check that a parameter has one of a few values.

    Parameters
    ----------
    name
        Name of the parameter.
    value
        Value of the parameter.
    allowed
        Values that are allowed, in the order in which the error lists them.

    Returns
    -------
    object
        `value`.

    Raises
    ------
    ValueError
        `value` is not in `allowed`.
    """
    if value not in allowed:
        raise ValueError(f"{name}={value!r}: {' or '.join(map(repr, allowed))}")
    return value


def check_integer(
    name: str, value: T, *, at_least: int | None = None, at_most: int | None = None, optional: bool = False
) -> T:
    """Check that a parameter is an integer within inclusive limits. A bool is not an integer.

    Parameters
    ----------
    name
        Name of the parameter.
    value
        Value of the parameter.
    at_least
        Smallest allowed value; None for no limit.
    at_most
        Largest allowed value; None for no limit.
    optional
        Whether None is allowed too.

    Returns
    -------
    int or None
        `value`.

    Raises
    ------
    ValueError
        `value` is not an integer or outside the limits.
    """
    if value is None and optional:
        return value
    kind = "None or an integer" if optional else "an integer"
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    return _check_limits(name, value, kind, is_integer, {"at least": at_least, "at most": at_most})


def check_number(
    name: str,
    value: T,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> T:
    """Check that a parameter is a finite number within limits. A bool is not a number.

    Parameters
    ----------
    name
        Name of the parameter.
    value
        Value of the parameter.
    at_least
        Smallest allowed value; None for no such limit.
    above
        Exclusive lower limit; None for no such limit.
    at_most
        Largest allowed value; None for no such limit.
    below
        Exclusive upper limit; None for no such limit.

    Returns
    -------
    float
        `value`.

    Raises
    ------
    ValueError
        `value` is not a finite number or outside the limits.
    """
    is_finite = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    limits = {"at least": at_least, "above": above, "at most": at_most, "below": below}
    return _check_limits(name, value, "a finite number", is_finite, limits)


def _check_limits(name: str, value: T, kind: str, is_of_kind: bool, limits: dict[str, float | None]) -> T:
    set_limits = {words: limit for words, limit in limits.items() if limit is not None}
    if not is_of_kind or not all(_COMPARE[words](value, limit) for words, limit in set_limits.items()):
        allowed = " and ".join(f"{words} {limit:.15g}" for words, limit in set_limits.items())
        raise ValueError(f"{name}={value!r}: {kind}{', ' * bool(allowed)}{allowed}")
    return value
