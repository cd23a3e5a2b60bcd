"""The README's code blocks run as written, in its order, on a suite that is made small enough for a test.

`make` lines are checked against the Makefile; a scale that needs files or hours is planned instead of run.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
from pathlib import Path

import pytest

from kdbench.cli.main import invoke

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: What makes any suite's `quick` small enough: put before the README's own options, which win.
SMALL = [
    'data.dataset={ name = "shapes", n_train = 40, n_test = 20, n_superclasses = 2, label = "shapes" }',
    "data.budgets=[20]",
    "data.folds=1",
    'teacher.source.dataset={ name = "shapes", task = "source", n_train = 100, n_test = 50, n_superclasses = 2 }',
    "teacher.source.epochs=1",
    "teacher.epochs=1",
    "student.architecture.depth=10",
    "student.epochs=1",
]
TINY = {
    "paper-reference": [*SMALL, "data.embedded=20", 'reducers=["pca"]'],
    "fixmatch-comparison": [
        *SMALL,
        "data.validation=10",
        'schemes=[{ name = "fixmatch", mu = 1, label = "fixmatch (reduced)" }, "undistilled"]',
        "student.steps=2",
    ],
}


def blocks() -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))


def commands() -> list[str]:
    lines = [
        line.split("  #")[0].strip() for kind, text in blocks() if kind == "sh" for line in text.splitlines()
    ]
    return [line for line in lines if line]


def test_every_block_is_of_a_kind_that_is_run() -> None:
    # tests/scaffold/test_example.py does what the transcript shows
    assert {kind for kind, _ in blocks()} == {"sh", "python", "console"}
    assert all(line.split()[0] in ("make", "kdbench", "python") for line in commands())


def test_make_targets_exist() -> None:
    for line in commands():
        if line.startswith("make"):
            done = subprocess.run([*shlex.split(line), "-n"], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_commands_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("MLFLOW_TRACKING_URI", "KDBENCH_HOME", "KDBENCH_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    for kind, text in blocks():
        if kind == "python":
            name = re.match(r"# (\S+\.py)", text)
            assert name, "a python block begins with its file's name"
            (tmp_path / name[1]).write_text(text, encoding="utf-8")
    tiny = {
        suite: [word for setting in settings for word in ("--set", setting)]
        for suite, settings in TINY.items()
    }
    assert invoke(["run", "paper-reference", *tiny["paper-reference"]]) == 0  # what `make run` does
    for line in commands():
        words = shlex.split(line)
        if words[0] == "python":
            runpy.run_path(words[1], run_name="__main__")
        if words[0] != "kdbench" or "--scale" in words:
            continue  # scales that need CIFAR-100 are the next test's
        more = tiny[words[2]] if words[1] == "run" else []
        allowed = {0, 4} if words[1] == "verify" else {0}  # a claim may well be contradicted at this size
        assert invoke([*words[1:3], *more, *words[3:]]) in allowed, line
    for suite, row in (("paper-reference", "landmarks"), ("fixmatch-comparison", "fixmatch (reduced)")):
        board = tmp_path / ".kdbench/leaderboards" / suite / "quick/leaderboard.csv"
        assert row in board.read_text(encoding="utf-8")
    assert (tmp_path / "leaderboards/paper-reference/quick/README.md").is_file()
    assert "(200, 2)" in capsys.readouterr().out  # what my_networks.py prints


@pytest.fixture
def cifar100() -> Path:
    candidates = [os.environ.get("KDBENCH_DATA"), ROOT.parent / "shared/data"]
    for folder in (Path(c) for c in candidates if c):
        for place in (folder, folder / "cifar100"):
            if place.is_dir() and list(place.glob("train-*.parquet")):
                return place
    pytest.skip("no CIFAR-100 in $KDBENCH_DATA or ../shared/data")


@pytest.mark.realdata
def test_scales_of_real_data_are_planned(tmp_path: Path, cifar100: Path) -> None:
    for line in commands():
        words = shlex.split(line)
        if words[0] == "kdbench" and "--scale" in words:
            words = ["plan" if w == "run" else str(cifar100) if w == "DATA" else w for w in words[1:]]
            assert invoke([*words, "--workspace", str(tmp_path)]) == 0, line
