"""The versions of the plugin API, and how an old one is told."""

from __future__ import annotations

import types

import pluggy
import pytest

from kdbench.api import API_VERSION, OLDEST_API_VERSION, hookimpl
from kdbench.registry import plugins
from kdbench.registry.versions import verdict


def test_this_kdbench_serves_its_own_version():
    assert OLDEST_API_VERSION <= API_VERSION
    assert verdict(API_VERSION) == verdict(None)
    assert not verdict(API_VERSION).refused
    assert verdict(API_VERSION).what == ""


@pytest.mark.parametrize(
    ("declared", "refused", "what", "hint"),
    [
        (5, False, "", ""),
        (4, False, "coming kdbench", "pip install -U kdbench-mine"),
        (3, False, "coming kdbench", "pip install -U kdbench-mine"),
        (2, True, "serves 3 to 5", "pip install -U kdbench-mine"),
        (6, True, "has 5", "pip install -U kdbench,"),
        ("5", True, "kdbench_api='5'", "kdbench_api = 5"),
        (True, True, "kdbench_api=True", "kdbench_api = 5"),
        (5.0, True, "kdbench_api=5.0", "kdbench_api = 5"),
    ],
)
def test_how_a_version_is_judged(declared, refused, what, hint):
    found = verdict(declared, current=5, oldest=3, distribution="kdbench-mine")
    assert found.refused == refused
    assert what in found.what
    assert bool(found.what) == bool(what)
    assert hint in found.hint


def loaded(**members):
    module = types.ModuleType("kdb_made")
    vars(module).update(members)
    candidate = plugins.Candidate("kdb_made", "made", "1.0", "kdb_made", lambda: module)
    return plugins.load_plugins([candidate], None)


def test_a_plugin_of_an_old_version_works_and_is_reported(monkeypatch):
    monkeypatch.setattr(plugins, "verdict", lambda declared, **k: verdict(declared, current=2, oldest=1, **k))
    found = loaded(kdbench_api=1)
    assert list(found.candidates) == ["kdb_made"]
    (failure,) = found.failures["kdb_made"]
    assert "written for API 1" in failure.what
    assert failure.hint == "pip install -U made"


def test_a_hook_that_is_to_go_is_reported_where_it_is_used(monkeypatch):
    spec = pluggy.HookspecMarker("kdbench")

    @spec(warn_on_impl=DeprecationWarning("kdbench_reducers goes with API 2; use kdbench_maps"))
    def kdbench_reducers():
        """Old."""

    monkeypatch.setattr(plugins, "hookspecs", types.SimpleNamespace(kdbench_reducers=kdbench_reducers))

    @hookimpl(specname="kdbench_reducers")
    def kdbench_mine():
        return []

    found = loaded(kdbench_mine=kdbench_mine)
    assert list(found.candidates) == ["kdb_made"]
    (failure,) = found.failures["kdb_made"]
    assert "goes with API 2; use kdbench_maps" in failure.what
    assert failure.where == f"{__file__}:{kdbench_mine.__code__.co_firstlineno}"
