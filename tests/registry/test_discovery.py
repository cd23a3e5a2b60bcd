"""Plugins that are found, and each way of being broken: it is reported, and nothing else suffers."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from kdbench.api import hookspecs
from kdbench.errors import PluginError, UsageError
from kdbench.registry import KINDS, Registry

PLUGINS = Path(__file__).parents[1] / "plugins"


def line_of(file: str, text: str) -> str:
    """ "path:line" of the first line of a fixture plugin that contains `text`."""
    path = PLUGINS / file
    lines = path.read_text().splitlines()
    return f"{path}:{next(i for i, line in enumerate(lines, 1) if text in line)}"


def info(registry: Registry, name: str):
    (found,) = (i for i in registry.plugins() if i.name == name)
    return found


def names(registry: Registry, kind: str) -> list[str]:
    return [spec.name for spec in registry.specs(kind)]


# A broken plugin beside a good one: (distributions, plugin, status, [(where, part of what, part of hint)])
BROKEN = {
    "import_error": (
        "kdb_import_error",
        "failed",
        [
            (
                line_of("import_error/kdb_import_error.py", "import kdb_nowhere"),
                "No module named",
                "kdb_nowhere",
            )
        ],
    ),
    "no_marker": (
        "kdb_no_marker",
        "failed",
        [
            ("", "there is no hook kdbench_reducer,", "kdbench_reducers"),
            (line_of("no_marker/kdb_no_marker.py", "def kdbench_reducers"), "has no marker", "hookimpl"),
            ("", "kdbench_suites is a wrapper", ""),
        ],
    ),
    "wrong_return": (
        "kdb_wrong_return",
        "partly",
        [
            ("", "kdbench_datasets returned NoneType None", ""),
            ("", "schemes/Bad Name: name='Bad Name'", ""),
            ("", "schemes/bad-target: target='kdb_wrong_return.Nothing'", ""),
            ("", "schemes/bad-version: version='1'", ""),
            ("", "kdbench_schemes returned type", ""),
            ("", "kdbench_reducers returned str 'oops', where an iterable of ReducerSpec", ""),
            ("", "kdbench_metrics returned ReducerSpec", ""),
            ("", "metrics/needy-metric: needs='logit': did you mean 'logits'", ""),
        ],
    ),
    "unknown_field": (
        "kdb_unknown_field",
        "partly",
        [
            (
                line_of("unknown_field/kdb_unknown_field.py", "ReducerSpec("),
                "unexpected keyword",
                "'requires'",
            ),
            (line_of("unknown_field/kdb_unknown_field.py", "halfway"), "RuntimeError: halfway", "doctor"),
        ],
    ),
    "unknown_argument": ("kdb_unknown_argument", "failed", [("", "colour", "")]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_reported_and_the_others_work(install, name):
    plugin, status, expected = BROKEN[name]
    install("good", name)
    registry = Registry.discover()
    broken = info(registry, plugin)
    assert broken.status == status
    assert len(broken.failures) == len(expected), [f.what for f in broken.failures]
    for failure, (where, what, hint) in zip(broken.failures, expected, strict=True):
        assert what in failure.what
        assert hint in failure.hint
        assert failure.where.startswith(where or str(PLUGINS / name))
        assert failure in registry.failures
    assert info(registry, "kdb_good").status == "ok"
    assert registry.create("reducers", "good-reducer").k == 15
    assert "pca" in names(registry, "reducers")  # the shipped ones too


@pytest.mark.parametrize("name", [*BROKEN, "same_id"])
def test_strict_makes_a_report_an_error(install, monkeypatch, name):
    install("good", name)
    monkeypatch.setenv("KDBENCH_STRICT", "1")
    with pytest.raises(PluginError, match=f"kdb_{name}"):
        Registry.discover()


def test_strict_is_content_with_good_plugins(install, monkeypatch):
    install("good")
    monkeypatch.setenv("KDBENCH_STRICT", "1")
    assert Registry.discover(select=["kdb_good"]).failures == ()


def test_the_original_traceback_is_kept(install):
    install("import_error")
    (failure,) = info(Registry.discover(), "kdb_import_error").failures
    assert "import kdb_nowhere" in failure.traceback
    assert "ModuleNotFoundError" in failure.traceback


def test_two_distributions_with_one_plugin_name_are_both_refused(install, monkeypatch):
    install("good", "twin_a", "twin_b")
    registry = Registry.discover()
    twins = [i for i in registry.plugins() if i.name == "kdb_twin"]
    assert [(t.distribution, t.status) for t in twins] == [("twin-a", "failed"), ("twin-b", "failed")]
    for twin in twins:
        assert "twin-a 1.0 (kdb_twin_a)" in twin.failures[0].what
        assert "twin-b 1.0 (kdb_twin_b)" in twin.failures[0].what
    assert not {"twin-a", "twin-b"} & set(names(registry, "reducers"))
    assert not {"kdb_twin_a", "kdb_twin_b"} & set(sys.modules)
    assert "good-reducer" in names(registry, "reducers")
    monkeypatch.setenv("KDBENCH_STRICT", "1")
    with pytest.raises(PluginError, match="twin-b"):
        Registry.discover()


def test_two_components_with_one_id_are_both_unusable(install):
    install("good", "same_id")
    registry = Registry.discover()
    assert "good-reducer" not in names(registry, "reducers")
    assert "own-reducer" in names(registry, "reducers")
    with pytest.raises(PluginError) as caught:
        registry.spec("reducers", "good-reducer")
    assert f"kdb_good (good 1.0; {PLUGINS / 'good' / 'kdb_good.py'}:" in caught.value.what
    assert f"kdb_same_id (same-id 1.0; {PLUGINS / 'same_id' / 'kdb_same_id.py'}:" in caught.value.what
    assert {f.plugin for f in registry.failures} == {"kdb_good", "kdb_same_id"}
    assert registry.create("datasets", "good-data").size == 5  # the rest of both plugins works


def test_selection_resolves_a_conflict(install, monkeypatch):
    install("good", "same_id")
    monkeypatch.setenv("KDBENCH_PLUGINS", "kdb_same_id")
    registry = Registry.discover()
    assert names(registry, "reducers") == ["good-reducer", "own-reducer"]
    assert info(registry, "kdb_good").status == "deselected"
    assert "kdb_good" not in registry.versions()


def test_selecting_a_plugin_that_is_not_there_says_what_is_near(install, monkeypatch):
    install("good")
    monkeypatch.setenv("KDBENCH_PLUGINS", "kdb_goot")
    with pytest.raises(UsageError, match="did you mean 'kdb_good'"):
        Registry.discover()


def test_discovery_is_the_same_twice_and_orders_by_name(install):
    install("good")
    first, second = Registry.discover(), Registry.discover()
    assert first.plugins() == second.plugins()
    for kind in ("reducers", "metrics", "datasets"):
        assert names(first, kind) == sorted(names(first, kind)) == names(second, kind)


def test_a_registry_does_not_change(install):
    install("good")
    registry = Registry.discover()
    with pytest.raises(AttributeError):
        registry.files = ()
    registry.specs("reducers").clear()
    registry.plugins().clear()
    assert "good-reducer" in names(registry, "reducers")
    assert registry.plugins()


def test_a_registry_travels_as_its_arguments(install, tmp_path):
    install("good")
    file = write(tmp_path / "one_file.py", ONE_FILE)
    registry = Registry.discover(select=["kdb_good"], files=[file])
    twin = pickle.loads(pickle.dumps(registry))
    assert twin.plugins() == registry.plugins()
    assert type(twin.create("reducers", "one-reducer")) is type(registry.create("reducers", "one-reducer"))


def test_versions_name_distribution_and_version(install, tmp_path):
    install("good", "import_error")
    file = write(tmp_path / "one_file.py", ONE_FILE)
    versions = Registry.discover(files=[file]).versions()
    assert versions["kdb_good"] == "good 1.0"
    assert "kdb_import_error" not in versions
    before = versions["one_file"]
    write(file, ONE_FILE + "# changed\n")
    assert Registry.discover(files=[file]).versions()["one_file"] != before


def test_observers_are_called_one_by_one(install):
    install("good", "raising_observer")
    registry = Registry.discover(select=["kdb_good", "kdb_raising_observer"])
    called: list[str] = []
    (failure,) = registry.notify("kdbench_run_finished", run=called)
    assert called == ["good"]
    assert "RuntimeError: no disk" in failure.what
    assert failure.where == line_of("raising_observer/kdb_raising_observer.py", "raise RuntimeError")
    assert registry.notify("kdbench_stage_finished", run=called, stage=None) == []


def test_every_hook_is_documented_called_and_has_an_example(install):
    install("good")
    registry = Registry.discover(select=["kdb_good"])
    hooks = {n: o for n, o in vars(hookspecs).items() if n.startswith("kdbench_")}
    assert all(inspect.getdoc(hook) for hook in hooks.values())
    kinds = {n.removeprefix("kdbench_") for n in hooks} & set(KINDS)
    assert kinds == set(KINDS)
    assert all(registry.specs(kind) for kind in kinds)
    observers = [n for n in hooks if n.removeprefix("kdbench_") not in KINDS]
    called: list[str] = []
    for name in observers:
        arguments = dict.fromkeys(inspect.signature(hooks[name]).parameters, name) | {"run": called}
        assert registry.notify(name, **arguments) == []
    assert called == ["started", "kdbench_stage_finished", "kdbench_cell_finished", "good"]


def test_discovery_imports_no_implementation():
    code = (
        "import sys; from kdbench.registry import Registry\n"
        "r = Registry.discover(); r.plugins(); r.specs('metrics')\n"
        "heavy = {'torch', 'mlflow', 'sklearn', 'numpy', 'pydantic', 'timm'} & set(sys.modules)\n"
        "targets = {s.target.partition(':')[0] for k in ('datasets', 'architectures', 'schemes', 'reducers', "
        "'metrics', 'executors') for s in r.specs(k)}\n"
        "inside = sorted(targets & set(sys.modules))\n"
        "sys.exit(f'{heavy} {inside}' if heavy or inside else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# One-file plugins

ONE_FILE = '''
from kdbench.api import ReducerSpec, SuiteSpec, hookimpl

class Reducer:
    """Mine."""
    def __init__(self, *, scale: float = 2.0) -> None:
        self.scale = scale
    def fit_transform(self, X):
        return X[:, :2] * self.scale

@hookimpl
def kdbench_reducers():
    return [
        ReducerSpec(name="one-reducer", target="one_file:Reducer", summary="by stem"),
        ReducerSpec(name="one-again", target=f"{__name__}:Reducer", summary="by module name"),
    ]

@hookimpl
def kdbench_suites():
    return [SuiteSpec(name="one-suite", target="one_file:one.toml", summary="beside the file")]
'''


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_file_is_a_plugin(install, tmp_path):
    install()
    registry = Registry.discover(files=[write(tmp_path / "one_file.py", ONE_FILE)])
    assert registry.create("reducers", "one-reducer", {"scale": 3}).scale == 3.0
    assert registry.create("reducers", "one-again").scale == 2.0
    assert info(registry, "one_file").origin == str(tmp_path / "one_file.py")
    (tmp_path / "one.toml").write_text("")
    assert registry.suite_file("one-suite") == tmp_path / "one.toml"


def test_a_file_is_loaded_under_a_name_of_its_own(install, tmp_path):
    install()
    import random

    source = ONE_FILE.replace("one_file:", "random:")
    registry = Registry.discover(files=[write(tmp_path / "random.py", source)])
    assert registry.create("reducers", "one-reducer").scale == 2.0
    assert sys.modules["random"] is random


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("def broken(:\n", "SyntaxError", ":1"),
        ("\nimport kdb_nowhere\n", "No module named 'kdb_nowhere'", ":2"),
        ("\n\nraise SystemExit(3)\n", "SystemExit", ":3"),
        ("def kdbench_reducers():\n    return []\n", "no marker", ":1"),
        ("\0", "null bytes", ""),
    ],
)
def test_a_broken_file_is_an_error_at_once(install, tmp_path, text, what, line):
    install()
    file = write(tmp_path / "broken.py", text)
    with pytest.raises(PluginError) as caught:
        Registry.discover(files=[file])
    assert what in caught.value.what
    assert f"{file}{line}" in str(caught.value)
    assert "kdbench_file_broken" not in sys.modules or what == "no marker"


def test_a_file_that_is_not_there_or_not_python(install, tmp_path):
    install()
    with pytest.raises(UsageError, match="no such file"):
        Registry.discover(files=[tmp_path / "absent.py"])
    with pytest.raises(UsageError, match=r"ends in \.py"):
        Registry.discover(files=[write(tmp_path / "plugin.txt", "")])


def test_a_file_can_not_take_the_name_of_an_installed_plugin(install, tmp_path):
    install("good")
    with pytest.raises(PluginError, match="neither is loaded"):
        Registry.discover(files=[write(tmp_path / "kdb_good.py", ONE_FILE)])
