"""What components said of themselves, kept between processes, is what they would say if they were asked."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kdbench.errors import SuiteError
from kdbench.registry import Registry, introspection_cache
from kdbench.registry.introspection_cache import Memory, names_a_file, source_folders

#: Of each kind, components whose libraries are heavy and that have parameters to fill in.
ASKED = [
    ("reducers", "ivis-torch", {"k": 12}),
    ("reducers", "tsne", {}),
    ("reducers", "pca", {"n_components": 3}),
    ("schemes", "kl", {"temperature": 4}),
    ("architectures", "wide-resnet", {"depth": 16}),
    ("metrics", "class-area", {"grid": 32}),
    ("datasets", "shapes", {"n_train": 200}),
]


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "cache" / "components.json"


@pytest.fixture(autouse=True)
def other_process():
    """States of folders are looked at once a process: a test is one."""
    introspection_cache._state.cache_clear()
    yield
    introspection_cache._state.cache_clear()


def test_what_is_kept_is_what_the_component_says(file, plain_registry):
    plain = [plain_registry.check(*asked) for asked in ASKED]
    assert [Registry.discover(memory=file).check(*asked) for asked in ASKED] == plain
    assert len(json.loads(file.read_text())) == len(ASKED)
    code = (
        "import json, sys; from pathlib import Path; from kdbench.registry import Registry\n"
        "registry = Registry.discover(memory=Path(sys.argv[1]))\n"
        "print(json.dumps([registry.check(*asked) for asked in json.loads(sys.argv[2])]))\n"
        "heavy = {'torch', 'sklearn', 'scipy', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'{heavy} was imported' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file), json.dumps(ASKED)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == plain


def test_an_answer_belongs_to_whoever_gets_it(plain_registry):
    first = plain_registry.check("metrics", "class-area")
    first["grid"] = -1
    assert plain_registry.check("metrics", "class-area")["grid"] != -1


def test_what_is_refused_is_refused_again(file):
    for _ in range(2):
        with pytest.raises(SuiteError, match="no parameter 'depht'"):
            Registry.discover(memory=file).check("architectures", "wide-resnet", {"depht": 1})
    assert not file.exists()


def test_asked_once_a_process_and_once_for_all(file):
    asked: list[int] = []

    def ask() -> Any:
        asked.append(1)
        return [5, "angular"]

    for _ in range(2):
        registry = Registry.discover(memory=file)
        for _ in range(2):
            assert registry.answer("reducers", "pca", {}, "neighbours among 30", ask) == [5, "angular"]
    assert asked == [1]
    assert registry.answer("reducers", "pca", {}, "neighbours among 31", ask) == [5, "angular"]
    assert registry.answer("reducers", "pca", {"n_components": 3}, "neighbours among 30", ask)
    assert len(asked) == 3


def test_parameters_that_name_a_file_are_asked_about_every_time(file, tmp_path):
    registry, asked = Registry.discover(memory=file), []
    params = {"weights": str(tmp_path)}
    for _ in range(2):
        registry.answer("architectures", "wide-resnet", params, "parameters", lambda: asked.append(1))
    assert len(asked) == 2
    assert not file.exists()
    assert names_a_file({"a": [{"b": str(tmp_path)}]})
    assert not names_a_file({"a": [{"b": "no such file", "c": 3.5, "d": None}]})


def test_one_file_plugins_are_never_kept(file, tmp_path):
    plugin = tmp_path / "mine.py"
    text = (
        "from kdbench.api import ReducerSpec, hookimpl\n"
        "class First:\n"
        "    def __init__(self, *, factor: float = {}) -> None: ...\n"
        "    def fit_transform(self, X): return X[:, :2]\n"
        "@hookimpl\n"
        "def kdbench_reducers(): return [ReducerSpec(name='first', target='mine:First', summary='s')]\n"
    )
    for factor in (2.0, 3.0):
        plugin.write_text(text.format(factor))
        registry = Registry.discover(files=[plugin], memory=file)
        assert registry.check("reducers", "first") == {"factor": factor}
        sys.modules.pop("kdbench_file_mine", None)
    assert not file.exists()


def test_other_sources_are_another_answer(file, tmp_path, monkeypatch):
    package = tmp_path / "some_component_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "thing.py").write_text(
        "from some_component_package.base import Base\nclass Thing(Base): ...\n"
    )
    (package / "base.py").write_text("class Base: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    thing = importlib.import_module("some_component_package.thing").Thing
    assert str(package) in source_folders(thing)
    kept = Memory(file)
    kept.keep("a", {"x": 1}, thing)
    assert kept.recall("a") == Memory(file).recall("a") == ({"x": 1}, True)
    assert kept.recall("b") == (None, False)
    introspection_cache._state.cache_clear()
    (package / "helper.py").write_text("")
    assert Memory(file).recall("a") == (None, False)
    introspection_cache._state.cache_clear()
    (package / "helper.py").unlink()
    assert Memory(file).recall("a") == ({"x": 1}, True)
    introspection_cache._state.cache_clear()
    later = (package / "base.py").stat().st_mtime_ns + 1_000_000
    os.utime(package / "base.py", ns=(later, later))
    assert Memory(file).recall("a") == (None, False)


def test_what_has_no_file_is_not_kept(file):
    made = type("Made", (), {"__module__": "no_such_module"})
    Memory(file).keep("a", 1, made)
    assert not file.exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"a": {"answer": 1, "sources": {"/no/such/folder": "x"}}}']
)
def test_a_damaged_file_is_as_good_as_none(file, text):
    file.parent.mkdir()
    file.write_text(text)
    assert Memory(file).recall("a") == (None, False)
    Memory(file).keep("b", [1], Memory)
    assert Memory(file).recall("b") == ([1], True)
