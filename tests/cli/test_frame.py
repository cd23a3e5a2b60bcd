"""The command line's frame: lazy verbs, messages and exit codes, list, show, doctor, plugins."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kdbench import __version__
from kdbench.cli import main as frame
from kdbench.errors import CellsFailed, PluginError, SuiteError, VerificationError

HEAVY = (
    "torch",
    "mlflow",
    "sklearn",
    "numpy",
    "numba",
    "pandas",
    "matplotlib",
    "timm",
    "openTSNE",
    "umap",
    "tensorflow",
)


def call(capsys, *args: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)"""
    code = frame.invoke(args)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def one_file(tmp_path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(
        "from kdbench.api import ReducerSpec, hookimpl\n"
        "class R:\n"
        "    '''Reduces [much].'''\n"
        "    def __init__(self, *, k: int = 3, seeds: tuple[int, ...] = (1, 2), n_jobs: int = 1) -> None:\n"
        "        self.k = k\n"
        "    def fit_transform(self, X): ...\n"
        "@hookimpl\n"
        "def kdbench_reducers():\n"
        "    return [ReducerSpec(name='mine', target='mine:R', summary='my own [bold]', reference='me')]\n"
    )
    return path


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["list"], ["list", "reducers", "--json"], ["plan", "--help"]]
)
def test_it_starts_without_anything_heavy(args):
    code = (
        "import sys\nfrom kdbench.cli.main import invoke\n"
        f"code = invoke({args!r})\n"
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]\n"
        "inside = [m for m in sys.modules if m.startswith('kdbench_') and '.' in m and '.specs_' not in m]\n"
        "sys.exit(f'{heavy} {inside}' if heavy or inside else code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_help_imports_no_verb():
    code = (
        "import sys\nfrom kdbench.cli.main import invoke\ninvoke(['--help'])\n"
        "verbs = [m for m in sys.modules if m.startswith('kdbench.cli.')]\n"
        "sys.exit(str([m for m in verbs if m != 'kdbench.cli.main']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"
    assert all(verb in done.stdout for verb in frame.VERBS)


@pytest.mark.parametrize("verb", frame.VERBS)
def test_every_verb_has_help(capsys, verb):
    code, out, _ = call(capsys, verb, "--help")
    assert code == 0
    assert f"{verb} " in out.splitlines()[0]
    assert "--help" in out


def test_version(capsys):
    assert call(capsys, "--version") == (0, f"kdbench, version {__version__}\n", "")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["lst"], "did you mean 'list'"),
        (["list", "reducer"], "'reducers'"),
        (["list", "--jsn"], "--json"),
        (["show"], "KIND/NAME"),
        (["show", "reducer/pca"], "did you mean 'reducers'"),
        (["show", "reducers/pcaa"], "did you mean 'pca'"),
        (["show", "pcaa"], "did you mean 'pca'"),
        (["show", "reducers/pca", "--scale", "quick"], "are for suites"),
        (["show", "absent.toml"], "no such suite file"),
        (["list", "--plugin", "absent.py"], "no such file"),
    ],
)
def test_a_mistake_is_one_message_and_exit_2(capsys, args, message):
    code, out, err = call(capsys, *args)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def raising(monkeypatch, error: BaseException) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("kdbench.registry.Registry.discover", fail)


@pytest.mark.parametrize(
    ("kind", "code"), [(CellsFailed, 1), (SuiteError, 2), (PluginError, 3), (VerificationError, 4)]
)
def test_an_error_says_what_where_and_what_to_do(capsys, monkeypatch, kind, code):
    raising(
        monkeypatch,
        kind("tsne[k=1] [bold]is[/bold] wrong", where="/a/long/path " + "x" * 200, hint="mend it"),
    )
    got, out, err = call(capsys, "list")
    assert (got, out) == (code, "")
    assert err == (
        f"error: tsne[k=1] [bold]is[/bold] wrong\n  where: /a/long/path {'x' * 200}\n  hint: mend it\n"
    )


def test_debug_adds_the_traceback(capsys, monkeypatch):
    raising(monkeypatch, SuiteError("wrong"))
    assert "Traceback" in call(capsys, "--debug", "list")[2]
    monkeypatch.setenv("KDBENCH_DEBUG", "1")
    assert "Traceback" in call(capsys, "list")[2]


def test_ctrl_c_is_one_line_and_130(capsys, monkeypatch):
    raising(monkeypatch, KeyboardInterrupt())
    code, _, err = call(capsys, "list")
    assert code == 130
    assert len(err.strip().splitlines()) == 1
    assert "interrupted" in err


def test_a_bug_shows_its_traceback_and_none_of_the_codes_of_a_person(capsys, monkeypatch):
    raising(monkeypatch, RuntimeError("a bug"))
    code, _, err = call(capsys, "list")
    assert code == 70
    assert "RuntimeError: a bug" in err


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -m kdbench.cli.main list --json | head -c 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert done.stdout == "{"
    assert done.stderr == ""


# list


def test_list_shows_every_kind_and_one_kind(capsys, one_file):
    code, out, _ = call(capsys, "list", "--plugin", str(one_file))
    assert code == 0
    assert {"reducers", "datasets", "suites"} <= set(out.split())
    code, out, _ = call(capsys, "list", "reducers", "--plugin", str(one_file))
    assert "my own [bold]" in " ".join(out.split())
    assert "datasets" not in out


def test_list_as_json(capsys, one_file):
    code, out, _ = call(capsys, "list", "reducers", "--json", "--plugin", str(one_file))
    rows = {row["name"]: row for row in json.loads(out)["reducers"]}
    assert code == 0
    assert rows["mine"]["summary"] == "my own [bold]"
    assert rows["mine"]["plugin"] == "mine"
    assert rows["random-projection"]["control"] == "negative"


def test_list_of_schemes_says_source_and_variants(capsys):
    code, out, _ = call(capsys, "list", "schemes", "--json")
    rows = {row["name"]: row for row in json.loads(out)["schemes"]}
    assert code == 0
    assert all(row["source"] for row in rows.values())
    assert rows["fixmatch"]["variants"] == ["paper", "code"]  # the default first
    assert rows["crd"]["variants"] == ["code", "paper"]
    assert rows["undistilled"]["variants"] == []
    assert "code | paper" in call(capsys, "list", "schemes")[1]


def test_python_m_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "kdbench", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("kdbench, version ")


def test_list_warns_of_a_broken_plugin_and_goes_on(capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "plugins" / "import_error"))
    code, out, err = call(capsys, "list", "reducers")
    assert code == 0
    assert "pca" in out
    assert err.startswith("warning: plugin kdb_import_error (import-error 1.0)")
    monkeypatch.setenv("KDBENCH_STRICT", "1")
    assert call(capsys, "list")[0] == 3


# show


def test_show_prints_parameters_with_types_and_defaults(capsys, one_file):
    code, out, _ = call(capsys, "show", "reducers/mine", "--plugin", str(one_file))
    text = " ".join(out.split())
    assert code == 0
    assert "k 3 int" in text
    assert "seeds [1, 2] tuple[int, ...]" in text
    assert "set by the run n_jobs" in text
    assert "Reduces [much]." in text
    assert call(capsys, "show", "mine", "--plugin", str(one_file))[1] == out


def test_show_as_json(capsys, one_file):
    code, out, _ = call(capsys, "show", "reducers/mine", "--json", "--plugin", str(one_file))
    data = json.loads(out)
    assert code == 0
    assert data["parameters"]["k"] == {"type": "int", "default": 3}
    assert data["set_by_the_run"] == ["n_jobs"]


def test_show_knows_reducers_by_import_path(capsys):
    code, out, _ = call(capsys, "show", "reducers/sklearn.manifold:Isomap", "--json")
    assert code == 0
    assert json.loads(out)["parameters"]["n_components"]["default"] == 2


SUITE = """
name = "s"
title = "S"
default_scale = "b"
reducers = ["pca"]
[data]
dataset = "mine"
budgets = [10]
[student]
architecture = "mine"
epochs = 5
[scales.a]
[scales.b]
student.epochs = 2
"""

PLUGIN = """
from kdbench.api import ArchitectureSpec, DatasetSpec, hookimpl
class C:
    def __init__(self, *, n: int = 4) -> None:
        self.n = n
@hookimpl
def kdbench_datasets():
    return [DatasetSpec(name="mine", target="own:C", summary="")]
@hookimpl
def kdbench_architectures():
    return [ArchitectureSpec(name="mine", target="own:C", summary="")]
"""


def test_show_a_suite_as_it_resolves(capsys, tmp_path):
    import tomllib

    (tmp_path / "own.py").write_text(PLUGIN)
    (tmp_path / "s.toml").write_text(SUITE)
    args = ["show", str(tmp_path / "s.toml"), "--plugin", str(tmp_path / "own.py")]
    code, out, _ = call(capsys, *args)
    assert code == 0
    assert "scales: a, b (default); this is b" in out
    assert tomllib.loads(out)["student"]["epochs"] == 2
    code, out, _ = call(capsys, *args, "--scale", "a", "--set", "student.architecture.n=9", "--json")
    data = json.loads(out)
    assert (data["scales"], data["default_scale"]) == (["a", "b"], "b")
    assert data["suite"]["student"]["epochs"] == 5
    assert data["suite"]["student"]["architecture"]["params"] == {"n": 9}
    code, _, err = call(capsys, *args, "--set", "student.epoch=1")
    assert code == 2
    assert "did you mean 'epochs'" in err


# doctor, plugins


def test_doctor_reports_and_exits_0(capsys, tmp_path, monkeypatch):
    (tmp_path / "data" / "cifar").mkdir(parents=True)
    monkeypatch.setenv("KDBENCH_DATA", str(tmp_path / "data"))
    code, out, _ = call(capsys, "doctor", "--json", "--workspace", str(tmp_path / "new" / "space"))
    data = json.loads(out)
    assert code == 0
    assert data["workspace"]["writable"] is True
    assert data["data"][0] == {"folder": str(tmp_path / "data"), "exists": True, "entries": ["cifar"]}
    assert data["versions"]["torch"]
    assert not (tmp_path / "new").exists()
    code, out, _ = call(capsys, "doctor", "--workspace", str(tmp_path))
    assert code == 0
    assert "kdbench_reducers" in out


def test_doctor_exits_2_for_a_workspace_that_can_not_be(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert call(capsys, "doctor", "--workspace", str(tmp_path / "file" / "inside"))[0] == 2


def test_plugins_doctor_shows_the_traceback_of_a_broken_file(capsys, tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("def x(:\n")
    code, out, _ = call(capsys, "plugins", "doctor", "--plugin", str(file))
    assert code == 3
    assert "def x(:" in out
    assert "Traceback" in out
    assert call(capsys, "list", "--plugin", str(file))[0] == 3  # any other verb refuses it


def test_what_is_not_known_may_come_from_a_file(capsys):
    code, _, err = call(capsys, "show", "architectures/my-own")
    assert code == 2
    assert "--plugin FILE.py" in " ".join(err.split())


@pytest.mark.parametrize("verb", [["doctor"], ["plugins", "list"]])
def test_a_broken_plugin_is_shown_and_exits_3(capsys, monkeypatch, verb):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "plugins" / "import_error"))
    code, out, _ = call(capsys, *verb)
    assert code == 3
    assert "No module named 'kdb_nowhere'" in out
    code, out, _ = call(capsys, *verb, "--json")
    assert code == 3
    data = json.loads(out)
    rows = data["plugins"] if verb == ["doctor"] else data
    (row,) = (r for r in rows if r["name"] == "kdb_import_error")
    assert row["status"] == "failed"
    assert "Traceback" in row["failures"][0]["traceback"]
