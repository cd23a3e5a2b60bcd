"""The README's code blocks run as written, in its order, on a suite that is made small enough for a test.

`make` lines are checked against the Makefile; a scale that needs files or hours is planned instead of run.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from kdbench.cli.main import invoke

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: What makes `quick` small enough; the command lines are otherwise as the README has them.
TINY = [
    'data.dataset={ name = "shapes", n_train = 40, n_test = 20, n_superclasses = 2, label = "shapes" }',
    "data.budgets=[20]",
    "data.folds=1",
    "data.embedded=20",
    "teacher.source.dataset.n_train=100",
    "teacher.source.dataset.n_test=50",
    "teacher.source.dataset.n_superclasses=2",
    "teacher.source.epochs=1",
    "teacher.epochs=1",
    "student.architecture.depth=10",
]
TINY_EPOCHS = "student.epochs=1"
TINY_REDUCERS = 'reducers=["pca"]'


def blocks() -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))


def commands() -> list[str]:
    lines = [
        line.split("  #")[0].strip() for kind, text in blocks() if kind == "sh" for line in text.splitlines()
    ]
    return [line for line in lines if line]


def test_every_block_is_of_a_kind_that_is_run() -> None:
    assert {kind for kind, _ in blocks()} == {"sh", "python"}
    assert all(line.split()[0] in ("make", "kdbench") for line in commands())


def test_make_targets_exist() -> None:
    for line in commands():
        if line.startswith("make"):
            done = subprocess.run([*shlex.split(line), "-n"], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_commands_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("MLFLOW_TRACKING_URI", "KDBENCH_HOME", "KDBENCH_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    for kind, text in blocks():
        if kind == "python":
            name = re.match(r"# (\S+\.py)", text)
            assert name, "a python block begins with its file's name"
            (tmp_path / name[1]).write_text(text, encoding="utf-8")
    assert invoke(["run", "paper-reference", *_tiny()]) == 0
    for line in commands():
        words = shlex.split(line)
        if words[0] != "kdbench" or "--scale" in words:
            continue  # scales that need CIFAR-100 are the next test's
        if words[1] == "run":
            words += _tiny(words)
        code = invoke(words[1:])
        assert code == (code if words[1] == "verify" else 0), line
        if words[1] == "verify":
            assert code in (0, 4), line
    assert (tmp_path / "leaderboards/paper-reference/quick/leaderboard.csv").is_file()
    assert "halves" in (tmp_path / "leaderboards/paper-reference/quick/leaderboard.csv").read_text()


def _tiny(words: list[str] | None = None) -> list[str]:
    """Overrides that come first, so that the README's own win."""
    given = " ".join(words or [])
    chosen = [*TINY]
    if "student.epochs" not in given:
        chosen.append(TINY_EPOCHS)
    if "reducers=" not in given:
        chosen.append(TINY_REDUCERS)
    tiny = [x for setting in chosen for x in ("--set", setting)]
    if words is None:
        return tiny
    return tiny


@pytest.mark.realdata
def test_scales_of_real_data_are_planned(tmp_path: Path, cifar100: Path) -> None:
    for line in commands():
        words = shlex.split(line)
        if words[0] == "kdbench" and "--scale" in words:
            words = ["plan" if w == "run" else str(cifar100) if w == "DATA" else w for w in words[1:]]
            assert invoke([*words, "--workspace", str(tmp_path)]) == 0, line
