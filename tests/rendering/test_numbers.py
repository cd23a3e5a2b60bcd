"""One formatter of numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdbench.rendering.numbers import duration, fixed, number, signed, significant

finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"value": 0.2375, "sd": 0.0085, "percent": True}, "23.75 ± 0.85"),
        ({"value": 0.12345}, "0.123"),
        ({"value": 123.456}, "123.5"),
        ({"value": 12345.6}, "12346"),
        ({"value": 1.2e-4, "sd": 3e-5}, "1.20e-04 ± 3.0e-05"),
        ({"value": -8.67e-19}, "0.000"),
        ({"value": -0.0}, "0.000"),
        ({"value": math.nan}, "nan"),
        ({"value": None}, ""),
    ],
)
def test_known_numbers(arguments, text):
    assert number(**arguments) == text


def test_differences_have_signs_and_intervals():
    assert signed(0.1815, 0.169, 0.194, percent=True) == "+18.15 [+16.90, +19.40]"
    assert signed(-8.67e-19, -0.0001, 0.0001) == "+0.000 [+0.000, +0.000]"
    assert signed(0.5, None, None) == "+0.500"
    assert signed(None) == ""


@given(finite, st.booleans())
def test_a_number_is_itself_within_the_digits_shown_and_never_a_negative_zero(value, percent):
    for text in (number(value, percent=percent), signed(value, percent=percent)):
        assert float(text) != 0 or "-" not in text
        shown = float(text) / (100 if percent else 1)
        assert shown == pytest.approx(value, rel=0.006, abs=0.6 if abs(value) >= 100 else 0.0006)


@given(finite, st.integers(0, 5))
def test_fixed_rounds(value, digits):
    assert float(fixed(value, digits)) == pytest.approx(value, abs=0.51 * 10**-digits)


def test_significant_digits():
    assert [significant(v) for v in (None, 0.123456, 1234567.0, math.inf)] == [
        "",
        "0.1235",
        "1.235e+06",
        "inf",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.2, "3 s"), (89, "89 s"), (240, "4 min"), (7800, "2 h 10 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
