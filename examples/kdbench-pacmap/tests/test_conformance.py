"""What kdbench holds every reducer to: each check is a test of its own."""

from kdbench.testing import parametrize_with_checks


@parametrize_with_checks(["reducers/pacmap"])
def test_conformance(check):
    check()
