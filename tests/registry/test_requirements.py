"""Requirements that are not met."""

from __future__ import annotations

import pytest

from kdbench.registry.requirements import missing, missing_of, pip_install


@pytest.mark.parametrize(
    ("requirement", "is_missing"),
    [
        ("torch", False),
        ("Scikit_Learn>=1.4", False),
        ("torch>=99", True),
        ("torch!=99,<99", False),
        ("no-such-distribution", True),
        ("no-such-distribution; python_version < '3'", False),
        ("torch>=99; python_version >= '3'", True),
        ("no-such-distribution; extra == 'all'", False),
        ("not a requirement!", True),
    ],
)
def test_versions_and_markers_decide_what_is_missing(requirement, is_missing):
    assert missing([requirement]) == ([requirement] if is_missing else [])


def test_missing_of_an_unknown_distribution_is_empty():
    assert missing_of("no-such-distribution") == []
    assert missing_of("pluggy") == []


def test_pip_install_quotes_each_requirement():
    assert pip_install(["a>=1", "b"]) == 'pip install "a>=1" "b"'
