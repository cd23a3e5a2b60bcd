"""Format numbers for tables, pages and the terminal."""

from __future__ import annotations

import math

PERCENT_DIGITS, DIGITS = 2, 3
#: Rounding errors, shown as zero.
NEGLIGIBLE = 1e-9


def number(
    value: float | None, sd: float | None = None, *, percent: bool = False, plus_minus: str = "±"
) -> str:
    """ "23.75 ± 0.85" of 0.2375 and 0.0085 in percent; otherwise three decimals, fewer of large numbers, and three
    significant digits of small ones.

    Parameters
    ----------
    value
        The number; "" for None.
    sd
        Its spread, if known.
    percent
        Multiply by 100 and show two decimals.
    plus_minus
        Sign between number and spread.

    Returns
    -------
    str
        Never a negative zero.
    """
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    if not percent and NEGLIGIBLE < abs(value) < 10**-DIGITS:
        return f"{value:.2e}" if sd is None else f"{value:.2e} {plus_minus} {sd:.1e}"
    digits = decimals(value, percent=percent)
    text = fixed(value, digits, percent=percent)
    if sd is None or not math.isfinite(sd):
        return text
    return f"{text} {plus_minus} {fixed(sd, digits, percent=percent)}"


def decimals(value: float, *, percent: bool = False) -> int:
    """Number of decimals that a value is shown with."""
    if percent:
        return PERCENT_DIGITS
    size = abs(value)
    if size >= 1000:
        return 0
    return 1 if size >= 100 else DIGITS


def fixed(value: float, digits: int, *, percent: bool = False, sign: bool = False) -> str:
    """A number with so many decimals; "+" in front of positive ones with `sign`. Never "-0.000"."""
    scaled = round(value * (100.0 if percent else 1.0), digits) + 0.0
    return f"{scaled:{'+' if sign else ''}.{digits}f}"


def signed(
    value: float | None, low: float | None = None, high: float | None = None, *, percent: bool = False
) -> str:
    """ "+18.15 [+16.90, +19.40]": a difference with its interval, if known; "" for None."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    digits = PERCENT_DIGITS if percent else DIGITS
    text = fixed(value, digits, percent=percent, sign=True)
    if low is None or high is None:
        return text
    ends = (fixed(end, digits, percent=percent, sign=True) for end in (low, high))
    return f"{text} [{', '.join(ends)}]"


def significant(value: float | None, digits: int = 4) -> str:
    """A number with so many significant digits; "" for None."""
    if value is None:
        return ""
    return f"{value + 0.0:.{digits}g}" if math.isfinite(value) else str(value)


def duration(seconds: float) -> str:
    """ "3 s", "4 min", "2 h 10 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
