"""From a name to an object: resolving, parameters, checks."""

from __future__ import annotations

import json
import math
import sys
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdbench.errors import KdbenchError, PluginError, SuiteError, UsageError
from kdbench.registry import KINDS, REQUIRED, Parameter, RegisteredComponent, Registry
from kdbench.registry.components import missing_requirements, read_parameters, type_name


@pytest.fixture
def registry(install) -> Registry:
    install("good")
    return Registry.discover(select=["kdb_good"])


def test_nothing_is_imported_before_it_is_resolved(registry, monkeypatch):
    monkeypatch.delitem(sys.modules, "kdb_good_parts", raising=False)
    registry.spec("reducers", "good-reducer")
    assert "kdb_good_parts" not in sys.modules
    registry.resolve("reducers", "good-reducer")
    assert "kdb_good_parts" in sys.modules


def test_a_name_not_found_says_what_is_near(registry):
    with pytest.raises(UsageError, match="did you mean 'good-reducer'"):
        registry.spec("reducers", "good-reduced")
    with pytest.raises(UsageError, match="'good-data' is one of the datasets"):
        registry.spec("schemes", "good-data")
    with pytest.raises(UsageError, match="did you mean 'reducers'"):
        registry.specs("reducer")


def test_a_name_not_found_names_the_broken_plugins(install):
    install("good", "import_error")
    with pytest.raises(UsageError, match="broken plugins: kdb_import_error"):
        Registry.discover().spec("reducers", "of-the-broken-one")


def test_parameters_are_the_constructor_s(registry):
    parameters = registry.parameters("reducers", "good-reducer")
    assert list(parameters) == ["k", "margin", "kind", "hidden", "cut", "on", "random_state", "n_jobs"]
    assert parameters["k"] == Parameter(int, 15)
    assert parameters["kind"].type_name == "'pn' | 'fast'"
    assert parameters["hidden"].type_name == "tuple[int, ...]"
    assert parameters["cut"].type_name == "float | None"


def test_check_fills_in_and_is_plain(registry):
    checked = registry.check("reducers", "good-reducer", {"margin": 2, "hidden": [4]})
    assert checked == {"k": 15, "margin": 2.0, "kind": "pn", "hidden": [4], "cut": None, "on": False}
    assert json.loads(json.dumps(checked)) == checked
    assert isinstance(checked["margin"], float)


def test_check_is_its_own_fixed_point(registry):
    checked = registry.check("reducers", "good-reducer", {"hidden": [1, 2, 3], "cut": 1})
    assert registry.check("reducers", "good-reducer", checked) == checked
    assert registry.create("reducers", "good-reducer", checked).hidden == (1, 2, 3)


@given(k=st.integers(), margin=st.floats(allow_nan=False, allow_infinity=False), on=st.booleans())
def test_right_values_pass_unchanged(k, margin, on):
    class Plain:
        def __init__(self, *, k: int = 0, margin: float = 0.0, on: bool = False) -> None:
            self.given = (k, margin, on)

    spec = Registry.discover(select=["kdbench_reducers"]).spec("reducers", "pca")
    component = RegisteredComponent(spec, Plain, read_parameters(Plain, "x"))
    values = component.values({"k": k, "margin": margin, "on": on})
    assert component.build(values).given == (k, margin, on)
    assert type(values["on"]) is bool


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"k": "3"}, "k='3': input should be a valid integer"),
        ({"k": 3.5}, "k=3.5"),
        ({"k": True}, "k=True: input should be a valid integer"),
        ({"k": [3]}, r"k=\[3\]"),
        ({"on": 1}, "on=1"),
        ({"kind": "slow"}, "kind='slow': input should be 'pn' or 'fast'"),
        ({"hidden": [1, "a"]}, "hidden="),
        ({"cut": "x"}, "cut='x'"),
        ({"k": object()}, "not plain data"),
        ({"margn": 1.0}, "did you mean 'margin'"),
        ({"random_state": 3}, "--seed"),
        ({"n_jobs": 3}, "n_jobs is set by the run"),
    ],
)
def test_a_wrong_parameter_is_refused(registry, params, message):
    with pytest.raises(SuiteError, match=message) as caught:
        registry.check("reducers", "good-reducer", params)
    assert caught.value.where == "reducers/good-reducer"


def test_the_constructor_s_refusal_names_the_component(registry):
    with pytest.raises(SuiteError, match="size=0: at least 1") as caught:
        registry.check("datasets", "good-data", {"size": 0})
    assert caught.value.where == "datasets/good-data"


def test_paths_come_from_text(registry):
    assert registry.create("datasets", "good-data", {"root": "a/b"}).root == Path("a/b")
    assert registry.check("datasets", "good-data", {"root": "a/b"})["root"] == "a/b"


def test_the_engine_s_parameters_reach_the_object_and_no_key(registry):
    made = registry.create("reducers", "good-reducer", {"k": 3}, random_state=7, n_jobs=2, device="cpu")
    assert (made.k, made.random_state, made.n_jobs) == (3, 7, 2)
    among = registry.create("reducers", "good-reducer", {"random_state": 9})
    assert among.random_state == 9
    assert "random_state" not in registry.check("reducers", "good-reducer")
    with pytest.raises(TypeError, match="not a parameter of the engine"):
        registry.create("reducers", "good-reducer", k=3)


def test_a_family_answers_to_its_members(registry):
    assert [s.name for s in registry.specs("datasets")] == ["good-data", "good-family/*"]
    assert registry.spec("datasets", "good-family/a-b.c").name == "good-family/a-b.c"
    made = registry.create("datasets", "good-family/a-b.c", {"ratio": 1})
    assert (made.model, made.ratio) == ("a-b.c", 1.0)
    assert registry.check("datasets", "good-family/x") == {"ratio": 0.5}
    for name in ("good-family", "good-family/", "good-family/*/x"):
        with pytest.raises(KdbenchError):
            registry.create("datasets", name, {"model": "x"})


def test_what_must_be_installed_is_said(registry):
    with pytest.raises(PluginError, match=r'needs kdb-nowhere>=2.*\n.*pip install "kdb-nowhere>=2"'):
        registry.check("reducers", "good-absent")


def test_a_target_that_does_not_exist(registry):
    with pytest.raises(PluginError, match="no 'Reduce' in kdb_good_parts") as caught:
        registry.resolve("reducers", "good-untargeted")
    assert "'Reducer'" in caught.value.hint


def test_a_constructor_outside_of_the_contract(registry):
    with pytest.raises(PluginError, match="'level' is not keyword-only and annotated"):
        registry.resolve("metrics", "good-metric")


def test_suite_files_are_found_and_a_missing_one_is_the_plugin_s_fault(registry):
    assert 'name = "good-suite"' in registry.suite_file("good-suite").read_text()
    with pytest.raises(PluginError, match=r"absent\.toml"):
        registry.suite_file("good-unshipped")


# Reducers by import path


def test_any_scikit_learn_class_is_a_reducer(registry):
    import numpy as np

    name = "sklearn.manifold:Isomap"
    spec = registry.spec("reducers", name)
    assert spec.version == f"scikit-learn {metadata.version('scikit-learn')}"
    X = np.random.default_rng(0).normal(size=(30, 5))
    made = registry.create("reducers", name, {"n_neighbors": 7}, random_state=0, n_jobs=1)
    assert made.get_params()["n_neighbors"] == 7
    assert made.fit_transform(X).shape == (30, 2)
    checked = registry.check("reducers", name, {"n_neighbors": 7})
    assert checked["n_neighbors"] == 7
    assert "n_jobs" not in checked
    json.dumps(checked, allow_nan=False)


def test_n_components_is_two_unless_said_otherwise(registry):
    name = "sklearn.decomposition:PCA"
    assert registry.check("reducers", name)["n_components"] == 2
    assert registry.create("reducers", name).n_components == 2
    assert registry.create("reducers", name, {"n_components": 3}).n_components == 3
    assert registry.create("reducers", name, random_state=5).random_state == 5


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("kdb_nowhere:X", UsageError, "no module 'kdb_nowhere'"),
        ("sklearn.manifold:", UsageError, "not an import path"),
        ("sklearn.manifold:Isomapp", PluginError, "no 'Isomapp'"),
        ("sklearn.nowhere:X", PluginError, r"sklearn\.nowhere"),
        ("json:JSONDecoder", UsageError, "fit_transform"),
    ],
)
def test_a_wrong_import_path(registry, name, error, message):
    with pytest.raises(error, match=message):
        registry.check("reducers", name)


def test_import_paths_are_for_reducers_alone(registry):
    with pytest.raises(UsageError, match="among the metrics"):
        registry.spec("metrics", "sklearn.manifold:Isomap")


def test_a_module_without_distribution_has_its_source_as_version(install, tmp_path, monkeypatch):
    install()
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "kdb_local.py"
    file.write_text(
        "class Mine:\n    def __init__(self, a=1):\n        self.a = a\n    def fit_transform(self, X): ...\n"
    )
    registry = Registry.discover(select=["kdbench_reducers"])
    before = registry.spec("reducers", "kdb_local:Mine").version
    assert registry.check("reducers", "kdb_local:Mine", {"a": 2}) == {"a": 2}
    file.write_text(file.read_text() + "# other\n")
    assert registry.spec("reducers", "kdb_local:Mine").version != before


def test_a_default_that_json_can_not_hold_stays_the_class_s_own(registry, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "kdb_odd.py").write_text(
        "class Odd:\n"
        "    def __init__(self, missing=float('nan'), f=len, n=1):\n"
        "        self.missing, self.f, self.n = missing, f, n\n"
        "    def fit_transform(self, X): ...\n"
    )
    checked = registry.check("reducers", "kdb_odd:Odd")
    assert checked == {"n": 1}
    made = registry.create("reducers", "kdb_odd:Odd", checked)
    assert math.isnan(made.missing)
    assert made.f is len


# Every shipped component


SHIPPED = (
    "kdbench_datasets",
    "kdbench_networks",
    "kdbench_lee2021",
    "kdbench_reducers",
    "kdbench_metrics",
)


def test_the_shipped_plugins_have_nothing_wrong():
    registry = Registry.discover(select=SHIPPED)
    assert registry.failures == ()
    assert all(spec.summary for kind in KINDS for spec in registry.specs(kind))
    for suite in registry.specs("suites"):
        assert registry.suite_file(suite.name).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [k for k in KINDS if k != "suites"])
def test_every_shipped_component_meets_the_constructor_s_contract(kind):
    registry = Registry.discover(select=SHIPPED)
    for spec in registry.specs(kind):
        if missing_requirements(spec):
            continue
        name = spec.name.replace("/*", "/any")
        required = [n for n, p in registry.parameters(kind, name).items() if p.required]
        if not required and "/" not in name:
            checked = registry.check(kind, name)
            assert registry.check(kind, name, checked) == checked


def test_type_names_read_as_written():
    assert type_name(int | None) == "int | None"
    assert type_name(dict[str, list[float]]) == "dict[str, list[float]]"
    assert type_name(None.__class__) == "None"
    assert Parameter(int, REQUIRED).required
