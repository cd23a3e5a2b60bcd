"""examples/kdbench-pacmap: installed in an environment of its own, checked, run, and in that run's leaderboard."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import shlex
import shutil
import site
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from kdbench.registry import Registry
from kdbench.scaffold import create

EXAMPLE = Path(__file__).parents[2] / "examples" / "kdbench-pacmap"

#: paper-reference at its quick scale, as small as its parts allow.
TINY = [
    'data.dataset={ name = "shapes", n_train = 200, n_test = 100, n_superclasses = 2 }',
    "data.budgets=[20]",
    "data.folds=1",
    "data.embedded=50",
    'schemes=["undistilled"]',
    'taps=["E"]',
    'reducers=["pca"]',
    'metrics=["accuracy", "class-area"]',
    'teacher.architecture={ name = "wide-resnet", depth = 10 }',
    "teacher.epochs=1",
    'teacher.source.dataset={ name = "shapes", task = "source", n_train = 100, n_test = 50 }',
    "teacher.source.epochs=1",
    'student.architecture={ name = "wide-resnet", depth = 10 }',
    "student.epochs=1",
]


def transcript() -> list[tuple[str, list[str]]]:
    """The README's transcript: each command, and the lines shown below it; "..." stands for others between them."""
    text = (EXAMPLE.parents[1] / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    shown: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            shown.append((line[2:], []))
        elif line.strip() not in ("", "..."):
            shown[-1][1].append(line)
    return shown


class Environment:
    """A virtual environment that sees the packages of the one the tests run in, and has its own besides."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.variables = {**variables, "KDBENCH_STRICT": "1"}
        venv.create(folder, with_pip=False)
        self.python = folder / "bin" / "python"
        purelib = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
        outer = [p for p in {*site.getsitepackages(), sysconfig.get_path("purelib")} if Path(p).is_dir()]
        lines = [f"import site; site.addsitedir({p!r})\n" for p in outer]
        (Path(purelib) / "outer.pth").write_text("".join(lines))

    def run(self, *args: str | Path, **kwargs) -> subprocess.CompletedProcess[str]:
        command = [str(self.python), *map(str, args)]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=self.variables, **kwargs
        )

    def kdbench(self, *args: str | Path, **kwargs) -> str:
        done = self.run("-c", "from kdbench.cli.main import main; main()", *args, **kwargs)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory, clean_environment) -> Environment:
    """With the example, and one distribution as the scaffold writes it, installed by pip."""
    folder = tmp_path_factory.mktemp("environment")
    example = folder / "kdbench-pacmap"
    shutil.copytree(EXAMPLE, example, ignore=shutil.ignore_patterns("__pycache__", "build", "dist"))
    plain = create("kdbench-plain", "reducer", folder, Registry.discover(select=["kdbench_reducers"])).folder
    here = Environment(folder / "venv", clean_environment)
    # The build backend and pacmap are requirements of [dev]; where they are not installed, pip fetches them.
    options = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    pip = [sys.executable, "-m", "pip", "--python", str(here.python), "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "install", "--quiet", *options, str(example), str(plain)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and any(w in done.stderr for w in ("No matching distribution", "ConnectionError")):
        pytest.skip(
            f"pacmap and hatchling are not here, and pip can't fetch them: {done.stderr.strip()[-300:]}"
        )
    assert done.returncode == 0, done.stderr
    return here


@pytest.mark.slow
def test_from_pip_install_to_the_leaderboard(environment, new_workspace):
    """In one test: test processes that share its parts would each make an environment."""
    is_found(environment)
    passes_its_own_tests(environment)
    keeps_the_contract(environment)
    workspace = new_workspace()
    does_what_the_readme_shows(environment, workspace)
    has_a_row_in_the_leaderboard(workspace)


def is_found(environment: Environment) -> None:
    rows = {r["name"]: r for r in json.loads(environment.kdbench("plugins", "list", "--json"))}
    example, plain = rows["kdbench_pacmap"], rows["kdbench_plain"]
    for row, component in ((example, "reducers/pacmap"), (plain, "reducers/plain")):
        assert (row["status"], row["components"], row["failures"]) == ("ok", [component], [])
        assert row["version"] == "0.1.0"
        assert str(environment.python.parents[1]) in row["origin"]
    assert example["missing"] == {}


def passes_its_own_tests(environment: Environment) -> None:
    tests = EXAMPLE / "tests" / "test_known_answers.py"
    done = environment.run(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", tests, cwd=environment.python.parent
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout


def keeps_the_contract(environment: Environment) -> None:
    (said,) = json.loads(environment.kdbench("plugins", "check", "reducers/pacmap", "--json"))
    statuses = {c["check"]: c["status"] for c in said["checks"]}
    assert said["failed"] == 0
    assert set(statuses.values()) == {"passed", "not applicable"}
    assert statuses["same-seed-same-result"] == statuses["beats-random-projection"] == "passed"


def does_what_the_readme_shows(environment: Environment, workspace: Path) -> None:
    """Its commands in its order, and what they print: all of it, but of a run what does not hang on its size."""
    overrides = [x for override in TINY for x in ("--set", override)]
    ran = []
    for command, shown in transcript():
        verb, *words = shlex.split(command)
        if verb != "kdbench":
            continue  # making the environment: the fixture has done it
        run = words[0] == "run"
        more = [*overrides, "--workspace", workspace] if run else []
        out = environment.kdbench(*words[:2], *more, *words[2:], cwd=workspace)
        ran.append(words[0])
        printed = [_same(line) for line in out.splitlines()]
        for line in shown:
            held = all(name in out for name in NAMED.findall(line)) if run else _same(line) in printed
            assert held, f"$ {command}\n{line}\n\n{out}"
    assert ran == ["list", "plugins", "run", "run"]


#: What a run prints at any size.
NAMED = re.compile(r"[\w-]+\.\w+ of [\w-]+|leaderboards/[\w/-]+\.md")


def _same(line: str) -> str:
    return " ".join(line.split())


def has_a_row_in_the_leaderboard(workspace: Path) -> None:
    (board,) = (workspace / "leaderboards").rglob("leaderboard.csv")
    rows = list(csv.DictReader(board.open(encoding="utf-8")))
    areas = {r["reducer"]: float(r["mean"]) for r in rows if r["metric"] == "class-area.median"}
    assert areas.keys() == {"pca", "pacmap"}
    assert 0 < areas["pacmap"] != areas["pca"]
