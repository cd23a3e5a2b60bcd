"""Checks of constructor parameters."""

from __future__ import annotations

import re

import numpy as np
import pytest

from kdbench.api import check_choice, check_integer, check_number


def test_checks_return_the_value():
    assert check_choice("variant", "code", ("paper", "code")) == "code"
    assert check_integer("k", np.int64(3), at_least=1) == 3
    assert check_integer("seed", None, at_least=0, optional=True) is None
    assert check_number("weight", 0, at_least=0) == 0
    assert check_number("alpha", np.float32(1), at_least=0, at_most=1) == 1


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: check_choice("variant", "new", ("paper", None)), "variant='new': 'paper' or None"),
        (lambda: check_integer("k", 0, at_least=1), "k=0: an integer, at least 1"),
        (lambda: check_integer("k", 2.0), "k=2.0: an integer"),
        (lambda: check_integer("k", True), "k=True: an integer"),
        (lambda: check_integer("k", None), "k=None: an integer"),
        (
            lambda: check_integer("k", 17, at_least=1, at_most=16),
            "k=17: an integer, at least 1 and at most 16",
        ),
        (lambda: check_integer("k", 0, at_least=1, optional=True), "k=0: None or an integer, at least 1"),
        (lambda: check_number("t", 0.0, above=0), "t=0.0: a finite number, above 0"),
        (lambda: check_number("t", float("inf"), above=0), "t=inf: a finite number, above 0"),
        (lambda: check_number("t", float("nan")), "t=nan: a finite number"),
        (lambda: check_number("t", "1"), "t='1': a finite number"),
        (
            lambda: check_number("d", 1.0, at_least=0, below=1),
            "d=1.0: a finite number, at least 0 and below 1",
        ),
    ],
)
def test_checks_name_parameter_value_and_what_is_allowed(check, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check()
