"""`kdbench plugins check`, and the same checks as tests of pytest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdbench.api import DatasetSpec, ReducerSpec
from kdbench.errors import UsageError
from kdbench.registry import Registry
from kdbench.testing import Target, checks_for, find_targets, run_checks

pytest_plugins = ("pytester",)
BROKEN = Path(__file__).with_name("kdb_broken_reducers.py")


def rows(out):
    return {c["component"]: {r["check"]: r for r in c["checks"]} for c in json.loads(out)}


def test_an_installed_component(kdbench_here):
    code, out, err = kdbench_here("plugins", "check", "reducers/random-projection")
    assert code == 0, err
    assert all(check.name in out for check in checks_for("reducers"))
    assert "15 passed, 3 not applicable" in out


def test_a_component_of_a_file_and_what_to_change(kdbench_here):
    code, out, _ = kdbench_here("plugins", "check", f"{BROKEN}:centres-its-input", "--json")
    assert code == 3
    ((component, checks),) = rows(out).items()
    assert component == "reducers/centres-its-input"
    row = checks["input-unchanged"]
    assert (row["status"], row["what"]) == ("failed", "fitting changed 200 of 200 rows of its input")
    assert row["change"] == "copy X before centring or scaling it"
    assert row["holds"].startswith("The rows are what they were")
    code, out, _ = kdbench_here("plugins", "check", f"{BROKEN}:centres-its-input")
    assert code == 3
    assert "change: copy X before" in " ".join(out.split())


def test_what_a_component_prints_does_not_stand_in_the_data(kdbench_here):
    code, out, err = kdbench_here("plugins", "check", f"{BROKEN}:prints", "--json")
    assert code == 3
    assert [n for n, r in rows(out)["reducers/prints"].items() if r["status"] == "failed"] == [
        "leaves-global-state-alone"
    ]
    assert "epoch 1" in err


def test_a_class_by_its_import_path_with_parameters(kdbench_here):
    code, out, err = kdbench_here(
        "plugins", "check", "sklearn.decomposition:TruncatedSVD", "--set", "n_components=3", "--set",
        "algorithm=arpack", "--json",
    )  # fmt: skip
    assert code == 0, err
    assert list(rows(out)) == ["reducers/sklearn.decomposition:TruncatedSVD[n_components=3,algorithm=arpack]"]


def test_a_class_that_no_plugin_names_is_checked_as_what_it_is(monkeypatch, kdbench_here):
    monkeypatch.syspath_prepend(BROKEN.parent)
    code, out, err = kdbench_here("plugins", "check", "kdb_broken_others:Patches", "--json")
    assert code == 0, err
    assert list(rows(out)) == ["datasets/patches"]
    code, _, err = kdbench_here("plugins", "check", "kdb_broken_others:Accuracy", "--kind", "metric")
    assert code == 2
    assert "does not say what one of the metrics needs" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["reducers/pcaa"], 2, ["no 'pcaa' among the reducers", "did you mean 'pca'?"]),
        (["pca"], 2, ["'pca' names no component", "reducers/pca"]),
        (["pca", "--kind", "reduser"], 2, ["no checks for 'reduser'", "reducers"]),
        (["suites/paper-reference"], 2, ["no checks for 'suites'"]),
        (["architectures/timm/*"], 2, ["is a family", "architectures/timm/..."]),
        (["no_such_file.py"], 2, ["there is no such file"]),
        ([f"{BROKEN}:sund"], 2, ["no component 'sund'", "'sound'"]),
        ([str(BROKEN), "--kind", "metric"], 2, ["it brings no metrics"]),
        (
            [f"{BROKEN}:lacks"],
            3,
            ["needs kdbench-no-such-package>=2", 'pip install "kdbench-no-such-package>=2"'],
        ),
        (["no_such_module:Thing"], 2, ["there is no module 'no_such_module'"]),
        (["sklearn.manifold:Isommap"], 2, ["no 'Isommap' in sklearn.manifold", "'Isomap'"]),
        (["json:dumps"], 2, ["can't be determined", "--kind"]),
        (["reducers/pca", "--set", "n_componnents=3"], 2, ["no parameter 'n_componnents'", "'n_components'"]),
        (["reducers/pca", "--set", "n_components"], 2, ["sets no parameter", "NAME=VALUE"]),
        (["reducers/pca", "--set", "n_components=0"], 2, ["n_components=0"]),
    ],
)
def test_bad_targets_are_refused(kdbench_here, arguments, code, words):
    found, out, err = kdbench_here("plugins", "check", *arguments)
    assert found == code, err
    assert out == ""
    for word in words:
        assert word in " ".join(err.split())


def test_a_file_that_is_not_python_is_told(kdbench_here, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def f(:\n")
    code, _, err = kdbench_here("plugins", "check", file)
    assert code == 3
    assert "SyntaxError" in err
    assert "mine.py:1" in err
    file.write_text("import kdbench\n")
    code, _, err = kdbench_here("plugins", "check", file)
    assert code == 2
    assert "it brings no component" in err


def test_the_folder_of_a_distribution(kdbench_here, tmp_path, monkeypatch):
    """A package's modules can't be loaded as one-file plugins: its distribution is installed, or that is said."""
    (tmp_path / "src" / "pkg").mkdir(parents=True)
    module = tmp_path / "src" / "pkg" / "__init__.py"
    module.write_text("")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "Good"\n')
    for target in (tmp_path, module):
        code, _, err = kdbench_here("plugins", "check", target)
        assert code == 2
        assert "no plugin of 'Good' is installed" in err
        assert f"pip install -e {tmp_path}" in " ".join(err.split())
    site = tmp_path / "site"
    (site / "good-1.0.dist-info").mkdir(parents=True)
    (site / "good-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: good\nVersion: 1.0\n")
    (site / "good-1.0.dist-info" / "entry_points.txt").write_text("[kdbench]\nkdb_folder = kdb_folder\n")
    (site / "kdb_folder.py").write_text(
        "from kdbench.api import ReducerSpec, hookimpl\n"
        "@hookimpl\n"
        "def kdbench_reducers():\n"
        "    return [ReducerSpec(name='in-folder', target='kdbench_reducers.linear:PCA', summary='s')]\n"
    )
    monkeypatch.syspath_prepend(str(site))
    code, out, err = kdbench_here("plugins", "check", tmp_path, "--json")
    assert code == 0, out + err
    assert {found["component"] for found in json.loads(out)} == {"reducers/in-folder"}
    (tmp_path / "pyproject.toml").unlink()
    code, _, err = kdbench_here("plugins", "check", tmp_path / "src")
    assert code == 2
    assert "no project with a pyproject.toml" in err


def test_targets_are_specs_too():
    spec = ReducerSpec(name="axes", target="sklearn.decomposition:TruncatedSVD", summary="Axes.")
    with pytest.raises(Exception, match="not keyword-only and annotated"):
        run_checks(spec)
    spec = DatasetSpec(
        name="small-digits", target="kdbench_datasets.digits:Digits", summary="s", embedded=True
    )
    (target,) = find_targets(spec, params={"size": 16})
    assert target.fixture.data.input_shape == (16, 16, 3)
    assert target.id == "datasets/small-digits[size=16]"


def test_kinds_are_known_by_their_names():
    registry = Registry.discover()
    assert [t.id for t in find_targets("pca", kind="reducer", registry=registry)] == ["reducers/pca"]
    with pytest.raises(UsageError, match="there are no checks for 'suites'"):
        checks_for("suites")


def test_every_check_says_what_it_holds_and_what_to_change():
    for kind in ("reducers", "metrics", "datasets", "architectures", "executors", "schemes"):
        checks = checks_for(kind)
        assert len({c.name for c in checks}) == len(checks)
        for check in checks:
            assert check.kind == kind
            assert check.holds.endswith(".")
            assert check.change


def test_one_test_a_check(pytester, monkeypatch):
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makepyfile(
        f"""
        from kdbench.registry import Registry
        from kdbench.testing import Target, parametrize_with_checks

        BROKEN = Registry.discover(files=[{str(BROKEN)!r}])
        NAMES = ["sound", "centres-its-input", "expected-to-fail", "expected-in-vain"]

        @parametrize_with_checks([Target("reducers", name, BROKEN) for name in NAMES])
        def test_conformance(check):
            check()

        @parametrize_with_checks(
            [Target("reducers", "prints", BROKEN)],
            expected_failed_checks={{"leaves-global-state-alone": "it has to talk"}},
        )
        def test_with_an_excuse(check):
            check()
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-rxf")
    checks = len(checks_for("reducers"))
    outcomes = result.parseoutcomes()
    assert outcomes["failed"] == 2  # an input that changes, and an expectation in vain
    assert outcomes["xfailed"] == 2
    assert sum(outcomes.values()) == 5 * checks
    result.stdout.fnmatch_lines(
        [
            "*reducers/centres-its-input: input-unchanged: fitting changed 200 of 200 rows of its input*",
            "*change: copy X before centring or scaling it*",
            "*XFAIL*reducers/expected-to-fail-beats-random-projection*it is a placebo*",
            "*XFAIL*reducers/prints-leaves-global-state-alone*it has to talk*",
        ]
    )


def test_a_bench_is_shared_by_the_checks_of_a_target():
    target = Target("reducers", "pca", Registry.discover())
    assert target.fixture is target.fixture
    assert target.fixture.reference is target.fixture.reference
