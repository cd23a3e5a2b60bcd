"""Run the conformance checks of a component, from Python or as pytest tests."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kdbench.api.specs import Spec
from kdbench.errors import UsageError, did_you_mean
from kdbench.testing.check import Check
from kdbench.testing.outcome import Finding
from kdbench.testing.target import KINDS, Target, find_targets


def checks_for(kind: str) -> tuple[Check, ...]:
    """All checks of a kind of component ("reducers"), in the order in which their findings are best read.

    Raises UsageError if there are none for this kind.
    """
    if kind not in KINDS:
        raise UsageError(f"there are no checks for {kind!r}", hint=did_you_mean(kind, KINDS))
    return tuple(importlib.import_module(f"kdbench.testing.{kind}").CHECKS)


def run_checks(
    target: str | Spec | Target,
    *,
    kind: str | None = None,
    params: Mapping[str, Any] | None = None,
    expected_failed_checks: Mapping[str, str] | None = None,
    progress: Callable[[Target, Finding], None] | None = None,
    **more: Any,
) -> dict[str, list[Finding]]:
    """Run all checks on the components that `target` names.

    Parameters
    ----------
    target
        As `find_targets` takes them.
    kind
        As `find_targets` takes them.
    params
        As `find_targets` takes them.
    expected_failed_checks
        Check to reason, beside those of the component's attribute of this name. Such a check must fail; if it
        passes, that is reported as a failure.
    progress
        Called with each finding as it is made.
    **more
        As `find_targets` takes them.

    Returns
    -------
    dict[str, list[Finding]]
        Findings by component, "reducers/umap".

    Raises
    ------
    UsageError
        No such component, or no such check.
    PluginError
        The component can't be imported.
    """
    outcomes: dict[str, list[Finding]] = {}
    for found in find_targets(target, kind=kind, params=params, **more):
        fixture, expected = found.fixture, _expected(found, expected_failed_checks)
        outcomes[found.id] = []
        for check in checks_for(found.kind):
            finding = judged(check.finding(fixture), expected)
            outcomes[found.id].append(finding)
            if progress is not None:
                progress(found, finding)
    return outcomes


def judged(finding: Finding, expected: Mapping[str, str]) -> Finding:
    """A finding in the light of what is expected to fail."""
    reason = expected.get(finding.check)
    if reason is None or finding.status == "not applicable":
        return finding
    if finding.status == "failed":
        return replace(finding, status="expected", sentence=f"{reason} ({finding.sentence})", hint="")
    what = f"it was expected to fail ({reason}), but passed"
    return Finding(finding.check, "failed", what, "take it off expected_failed_checks")


def _expected(target: Target, given: Mapping[str, str] | None) -> dict[str, str]:
    expected = {**target.expected_failed_checks, **(given or {})}
    names = [check.name for check in checks_for(target.kind)]
    for name in expected:
        if name not in names:
            raise UsageError(
                f"expected_failed_checks has {name!r}, which is no check of {target.kind}",
                where=target.id,
                hint=did_you_mean(name, names),
            )
    return expected


@dataclass(frozen=True, eq=False)
class BoundCheck:
    """One check of one component, as a test calls it."""

    check: Check
    target: Target
    expected: Mapping[str, str] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"{self.target.id}: {self.check.name}"

    def __call__(self) -> None:
        """Passes, fails with what is wrong and what to change, is skipped where it does not apply, or fails as
        expected (xfail, with the reason)."""
        import pytest

        expected = _expected(self.target, self.expected)
        finding = judged(self.check.finding(self.target.fixture), expected)
        if finding.status == "not applicable":
            pytest.skip(finding.sentence)
        if finding.status == "expected":
            pytest.xfail(finding.sentence)
        if finding.status == "failed":
            change = f"\n  change: {finding.hint}" if finding.hint else ""
            pytest.fail(
                f"{self!r}: {finding.sentence}\n  contract: {self.check.holds}{change}", pytrace=False
            )


def parametrize_with_checks(
    targets: Iterable[str | Spec | Target], *, expected_failed_checks: Mapping[str, str] | None = None
) -> Any:
    """A decorator that makes of one test one for each check of each component.

        @parametrize_with_checks(["reducers/my-reducer"])
        def test_conformance(check):
            check()

    Parameters
    ----------
    targets
        As `find_targets` takes them.
    expected_failed_checks
        Check to reason; such a check is a strict xfail, with the reason. A component can say so itself, in an
        attribute of this name.

    Returns
    -------
    Callable
        A decorator of a test function.
    """
    import pytest

    def cases() -> Iterator[Any]:
        for target in (t for given in targets for t in find_targets(given)):
            for check in checks_for(target.kind):
                yield pytest.param(
                    BoundCheck(check, target, expected_failed_checks), id=f"{target.id}-{check.name}"
                )

    return pytest.mark.parametrize("check", list(cases()))
