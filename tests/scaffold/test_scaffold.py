"""`kdbench plugins new`: what it writes works as it stands, and what it refuses is left alone."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kdbench.api import API_VERSION
from kdbench.cli import main as frame
from kdbench.errors import UsageError, WorkspaceError
from kdbench.registry import Registry
from kdbench.scaffold import KINDS, create

ROOT = Path(__file__).parents[2]
BY_KIND = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def registry() -> Registry:
    return Registry.discover(select=["kdbench_reducers"])


@pytest.fixture
def installed(made, monkeypatch):
    """All of them, found by every registry of the test."""
    for folder in made.values():
        monkeypatch.syspath_prepend(str(folder / "src"))
    yield made
    for module in [m for m in sys.modules if m.startswith("kdbench_made_")]:
        del sys.modules[module]


def written(folder: Path) -> set[str]:
    files = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return {str(f) for f in files if "dist-info" not in str(f) and "__pycache__" not in str(f)}


# What it writes


@BY_KIND
def test_a_distribution_is_complete(made, kind):
    package = f"kdbench_made_{kind}"
    assert written(made[kind]) == {
        ".gitignore", "LICENSE", "README.md", "pyproject.toml", "tests/test_conformance.py",
        "tests/test_known_answers.py", f"src/{package}/__init__.py", f"src/{package}/made_{kind}.py",
    }  # fmt: skip
    project = tomllib.loads((made[kind] / "pyproject.toml").read_text())
    assert project["project"]["name"] == f"kdbench-made-{kind}"
    assert project["project"]["entry-points"]["kdbench"] == {package: package}
    assert all("${" not in (made[kind] / f).read_text() for f in written(made[kind]))


def test_what_it_writes_is_clean(made):
    ruff = [sys.executable, "-m", "ruff"]
    settings = ["--config", str(ROOT / "pyproject.toml"), "--no-cache", *map(str, made.values())]
    for verb in (["check"], ["format", "--check"]):
        done = subprocess.run([*ruff, *verb, *settings], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_their_own_tests_pass(made):
    path = os.pathsep.join(str(folder / "src") for folder in made.values())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib"]
        + [str(folder / "tests") for folder in made.values()],
        env={**os.environ, "PYTHONPATH": path, "KDBENCH_STRICT": "1"},
        cwd=made["reducer"].parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@BY_KIND
def test_it_is_found_and_shown(installed, capsys, kind):
    assert frame.invoke(["show", f"{kind}s/made-{kind}", "--json"]) == 0
    assert f'"id": "{kind}s/made-{kind}"' in capsys.readouterr().out
    (plugin,) = (p for p in Registry.discover().plugins() if p.name == f"kdbench_made_{kind}")
    assert (plugin.status, plugin.failures) == ("ok", ())
    assert sys.modules[f"kdbench_made_{kind}"].kdbench_api == API_VERSION


@BY_KIND
def test_the_command_in_its_readme_makes_a_plan(installed, capsys, tmp_path, cache_home, monkeypatch, kind):
    """As `kdbench plan`, which checks all that a run would."""
    (line,) = (x for x in (installed[kind] / "README.md").read_text().splitlines() if "kdbench run" in x)
    verb, *args = shlex.split(line)[1:]
    assert verb == "run"
    if "--executor" in args:
        at = args.index("--executor")  # an option of `run` alone
        assert Registry.discover().check("executors", args[at + 1]) == {"log": None}
        del args[at : at + 2]
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    code = frame.invoke(["plan", *args, "--workspace", str(tmp_path / "workspace")])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert "results:" in out


def test_the_command_says_what_is_next(tmp_path, capsys):
    assert (
        frame.invoke(["plugins", "new", "kdbench-pumap", "--kind", "reducer", "--into", str(tmp_path)]) == 0
    )
    out = capsys.readouterr().out
    assert "src/kdbench_pumap/pumap.py" in out
    assert "kdbench plugins check reducers/pumap" in out
    assert f"pip install -e '{tmp_path / 'kdbench-pumap'}[test]'" in out


@pytest.mark.parametrize(
    ("name", "package", "module", "component", "cls"),
    [
        ("kdbench-PaCMAP.tuned", "kdbench_pacmap_tuned", "pacmap_tuned", "pacmap-tuned", "PacmapTuned"),
        ("trimap", "trimap", "trimap", "trimap", "Trimap"),
        ("kdbench-3d", "kdbench_3d", "reducer_3d", "3d", "Reducer3d"),
        ("kdbench-lambda", "kdbench_lambda", "reducer_lambda", "lambda", "Lambda"),
        ("kdbench-none", "kdbench_none", "none", "none", "ReducerNone"),
        ("kdbench-conformance", "kdbench_conformance", "conformance", "conformance", "Conformance"),
    ],
)
def test_names_follow_from_the_distribution_s(tmp_path, registry, name, package, module, component, cls):
    folder = create(name, "reducer", tmp_path, registry).folder
    assert folder == tmp_path / name
    assert f"class {cls}:" in (folder / "src" / package / f"{module}.py").read_text()
    hooks = (folder / "src" / package / "__init__.py").read_text()
    assert f'name="{component}"' in hooks
    assert f'target="{package}.{module}:{cls}"' in hooks
    for file in folder.rglob("*.py"):
        compile(file.read_text(), str(file), "exec")


# What it refuses


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("kdbench pacmap", "no name of a distribution"),
        ("../elsewhere", "no name of a distribution"),
        ("-pacmap", "no name of a distribution"),
        ("kdbench-", "no name of a distribution"),
        ("", "no name of a distribution"),
        ("kdbench-pacmäp", "no name of a distribution"),
        ("kdbench-pacmap\n", "no name of a distribution"),
        ("kdbench", "import package 'kdbench'"),
        ("3d", "import package '3d'"),
        ("class", "import package 'class'"),
        ("kdbench-reducers", "'kdbench_reducers' is taken by kdbench"),
        ("kdbench-pca", "reducers/pca is taken by kdbench_reducers"),
    ],
)
def test_a_name_that_can_not_be_is_refused(tmp_path, registry, name, what):
    with pytest.raises(UsageError) as caught:
        create(name, "reducer", tmp_path, registry)
    assert what in caught.value.what
    assert caught.value.hint or name == "kdbench"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path, capsys):
    there = tmp_path / "kdbench-mine"
    there.mkdir()
    (there / "notes").write_text("mine")
    assert frame.invoke(["plugins", "new", "kdbench-mine", "--kind", "metric", "--into", str(tmp_path)]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert [p.name for p in tmp_path.rglob("*")] == ["kdbench-mine", "notes"]
    assert (there / "notes").read_text() == "mine"


def test_a_file_or_a_dangling_link_of_the_name_is_left_alone(tmp_path, registry):
    (tmp_path / "kdbench-mine").write_text("")
    (tmp_path / "kdbench-link").symlink_to(tmp_path / "nowhere")
    for name in ("kdbench-mine", "kdbench-link"):
        with pytest.raises(UsageError, match="nothing is overwritten"):
            create(name, "reducer", tmp_path, registry)


def test_a_folder_to_write_into_must_be_there(tmp_path, registry):
    with pytest.raises(UsageError, match="no such folder"):
        create("kdbench-mine", "reducer", tmp_path / "absent", registry)


def test_nothing_is_left_of_one_that_can_not_be_written(tmp_path, registry, monkeypatch):
    def fails(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(WorkspaceError, match="No space left"):
        create("kdbench-mine", "reducer", tmp_path, registry)
    assert list(tmp_path.iterdir()) == []


def test_a_kind_that_is_none(tmp_path, registry):
    with pytest.raises(UsageError, match="did you mean 'reducer'"):
        create("kdbench-mine", "reducers", tmp_path, registry)
