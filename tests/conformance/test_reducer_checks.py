"""Each check of reducers finds those that it is there for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kdbench.errors import PluginError, UsageError
from kdbench.registry import Registry
from kdbench.testing import Target, Violation, checks_for, run_checks

FILE = Path(__file__).with_name("kdb_broken_reducers.py")


@pytest.fixture(scope="module")
def broken():
    return Registry.discover(files=[FILE])


def findings(registry, name):
    (found,) = run_checks(Target("reducers", name, registry)).values()
    return {f.check: f for f in found}


@pytest.mark.parametrize("name", ["sound", "uses-neighbours", "sklearn.decomposition:PCA"])
def test_a_sound_reducer_is_found_sound(broken, name):
    (found,) = run_checks(Target("reducers", name, broken)).values()
    assert not [f for f in found if f.status not in ("passed", "not applicable")]
    assert len(found) == len(checks_for("reducers"))


@pytest.mark.parametrize(
    ("name", "check", "sentence"),
    [
        ("one-column-more", "shape", r"n_components=2, and it returned 3 columns"),
        ("has-nan", "finite", "2 of 400 coordinates are not finite"),
        ("centres-its-input", "input-unchanged", "changed 200 of 200 rows"),
        ("unseeded", "same-seed-same-result", "the same random_state differ"),
        ("keeps-the-first-mean", "second-fit-forgets-the-first", "a second fit of one instance"),
        ("global-numpy", "no-global-random-state", "other global seeds"),
        ("global-torch", "no-global-random-state", "other global seeds"),
        ("seeds-numpy", "leaves-global-state-alone", "moved the global random state of numpy"),
        ("prints", "leaves-global-state-alone", "it printed 'epoch 1' while it was fitted"),
        ("single-by-its-bytes", "float32", "in float64"),
        ("reads-memory", "non-contiguous-slice", "for a slice of a larger array"),
        ("races", "one-thread-and-two-agree", "with two threads"),
        ("looks-at-nothing", "beats-random-projection", "with random projections"),
        ("takes-nan", "refuses-nan", "takes NaN in its input"),
        ("index-error", "few-rows", "1 rows: it ends in IndexError"),
        ("takes-anything", "no-rows", "no row: it is taken"),
        ("divides-by-the-spread", "constant-rows", "not finite"),
        (
            "ignores-neighbours",
            "given-neighbours-are-used",
            "unexpected keyword|other rows give the same points",
        ),
        ("wants-too-many", "given-neighbours-are-used", r"neighbours_wanted\(200\) is \(200, 'euclidean'\)"),
        ("elsewhere", "transform", "standard deviations from where"),
        ("no-history", "loss-history", "not there, or empty"),
    ],
)
def test_a_broken_promise_is_found(broken, name, check, sentence):
    fixture = Target("reducers", name, broken).fixture
    it = next(c for c in checks_for("reducers") if c.name == check)
    with pytest.raises(Violation, match=f"(?i){sentence}"):
        it(fixture)
    finding = it.finding(fixture)
    assert finding.status == "failed"
    assert finding.hint == it.change


def test_what_a_reducer_raises_is_a_finding(broken):
    found = findings(broken, "double-alone")
    assert found["float32"].status == "failed"
    assert "expected 'double'" in found["float32"].sentence


def test_a_component_that_exits_fails():
    def exits(_):
        raise SystemExit(0)

    assert replace(checks_for("reducers")[0], function=exits).finding(None).status == "failed"


def test_what_is_expected_to_fail_has_to(broken):
    expected = findings(broken, "expected-to-fail")["beats-random-projection"]
    assert (expected.status, expected.sentence[:15]) == ("expected", "it is a placebo")
    vain = findings(broken, "expected-in-vain")["finite"]
    assert vain.status == "failed"
    assert "expected to fail (it was not finite once), but passed" in vain.sentence
    given = {"beats-random-projection": "a placebo"}
    target = Target("reducers", "looks-at-nothing", broken)
    (found,) = run_checks(target, expected_failed_checks=given).values()
    assert "failed" not in [f.status for f in found]
    with pytest.raises(UsageError, match="'finit', which is no check of reducers") as error:
        run_checks(target, expected_failed_checks={"finit": "?"})
    assert "'finite'" in error.value.hint


def test_a_missing_dependency_is_told_with_the_command(broken):
    with pytest.raises(PluginError, match="needs kdbench-no-such-package>=2") as error:
        run_checks(Target("reducers", "lacks", broken))
    assert error.value.hint == 'pip install "kdbench-no-such-package>=2"'
