"""A reducer without a plugin: a class with scikit-learn's habits by import path, up to the keys of a plan."""

from __future__ import annotations

import json

import pytest

from kdbench.cli import main as frame
from kdbench.errors import PluginError, UsageError
from kdbench.registry import Registry, import_paths

ISOMAP = "sklearn.manifold:Isomap"


def embeddings(plan) -> dict[str, str]:
    """Component title -> key of every embedding stage."""
    return {s.title: s.key for s in plan.stages.values() if s.kind == "embedding"}


@pytest.mark.parametrize(
    "override",
    [f'reducers+="{ISOMAP}"', f"reducers+={ISOMAP}", f'reducers+={{ name = "{ISOMAP}" }}'],
)
def test_each_way_to_write_it_is_the_same_work(tiny_plan, override):
    plan = tiny_plan(override, 'schemes=["undistilled"]')
    keys = {t: k for t, k in embeddings(plan).items() if "Isomap" in t}
    assert len(keys) == 1
    whole = tiny_plan(f'reducers+={{ name = "{ISOMAP}", n_neighbors = 5 }}', 'schemes=["undistilled"]')
    assert set(keys.values()) == {
        k for t, k in embeddings(whole).items() if "Isomap" in t
    }  # 5 is the default


def test_parameters_and_the_distribution_s_version_are_in_the_key(tiny_plan, monkeypatch):
    def keys(override):
        plan = tiny_plan(override, 'schemes=["undistilled"]', registry=Registry.discover())
        return {k for t, k in embeddings(plan).items() if "Isomap" in t}

    default = keys(f"reducers+={ISOMAP}")
    seven = keys(f'reducers+={{ name = "{ISOMAP}", n_neighbors = 7 }}')
    assert default.isdisjoint(seven)
    monkeypatch.setattr(import_paths, "_distribution_version", lambda module: "scikit-learn 99.0")
    assert keys(f"reducers+={ISOMAP}").isdisjoint(default)


def test_it_runs(tiny_plan, carry_out, tmp_path):
    from kdbench.store import Store

    plan = tiny_plan(
        f'reducers=[{{ name = "{ISOMAP}", n_neighbors = 7, label = "isomap" }}]', 'schemes=["undistilled"]',
        'metrics=["class-area"]', "teacher_metrics=[]",
    )  # fmt: skip
    store = Store(tmp_path)
    report = carry_out(plan, store)
    assert report.summary.status == "finished", report.failed
    (record,) = (r for r in store.records() if r["kind"] == "embedding")
    assert record["values"]["params"]["n_neighbors"] == 7
    assert record["values"]["params"]["n_components"] == 2


def test_nothing_is_listed_that_was_not(capsys):
    frame.invoke(["list", "reducers", "--json"])
    before = json.loads(capsys.readouterr().out)
    assert frame.invoke(["show", f"reducers/{ISOMAP}", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["parameters"]["n_neighbors"] == {"type": "any", "default": 5}
    assert shown["spec"]["version"].startswith("scikit-learn ")
    frame.invoke(["list", "reducers", "--json"])
    assert json.loads(capsys.readouterr().out) == before
    assert all(":" not in row["name"] for row in before["reducers"])


def test_a_module_that_is_not_there_comes_with_a_command():
    with pytest.raises(UsageError) as caught:
        Registry.discover(select=["kdbench_reducers"]).spec("reducers", "kdb_no_where:Map")
    assert "no module 'kdb_no_where'" in caught.value.what
    assert "pip install kdb-no-where" in caught.value.hint


def test_a_module_that_lacks_another_names_the_other(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "kdb_needy.py").write_text("\nimport kdb_absent.parts\n")
    with pytest.raises(PluginError) as caught:
        Registry.discover(select=["kdbench_reducers"]).check("reducers", "kdb_needy:Map")
    assert f"{tmp_path / 'kdb_needy.py'}:2" in caught.value.hint
    assert "install what provides 'kdb_absent'" in caught.value.hint


def test_a_class_that_reduces_nothing_is_refused():
    with pytest.raises(UsageError, match="has no fit_transform"):
        Registry.discover(select=["kdbench_reducers"]).check("reducers", "sklearn.svm:SVC")
