"""What the command line says of each broken fixture distribution, to the letter; that the rest works; that strict
refuses."""

from __future__ import annotations

import importlib
import json
import os
import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from kdbench.api import API_VERSION
from kdbench.cli import main as frame

PLUGINS = Path(__file__).parents[1] / "plugins"
GOLDEN = PLUGINS / "golden"

#: Name of the golden file -> fixture distributions beside the good one.
CASES = {
    "import_error": ["import_error"],
    "twin": ["twin_a", "twin_b"],
    "same_id": ["same_id"],
    "no_marker": ["no_marker"],
    "wrong_return": ["wrong_return"],
    "unknown_field": ["unknown_field"],
    "unknown_argument": ["unknown_argument"],
    "newer_api": ["newer_api"],
    "missing_dependency": ["missing_dependency"],
    "rude": ["rude"],
}
SELECTED = {"twin": ["kdb_twin"]}


@pytest.fixture
def say(capsys, monkeypatch):
    """`say(*args)`: run a command; (exit code, stdout, stderr) with the fixtures' folder as PLUGINS and without the
    plugins that are not selected."""
    monkeypatch.setenv("COLUMNS", "200")
    importlib.import_module("numpy.random")  # a generator that is there can be seen to move

    def run(*args: str) -> tuple[int, str, str]:
        for module in [m for m in sys.modules if m.startswith("kdb_")]:
            del sys.modules[module]  # each command finds plugins that nobody has imported
        code = frame.invoke(args)
        out, err = capsys.readouterr()
        shown = [line for line in out.splitlines(True) if not line.startswith("  deselected")]
        return code, _plain("".join(shown)), _plain(err)

    return run


def _plain(text: str) -> str:
    text = re.sub(r"\. Did you mean '\w+'\?", "", text)  # Python 3.13 adds it to a TypeError
    return re.sub(r"kdbench \d[\w.]*", "kdbench VERSION", text.replace(str(PLUGINS), "PLUGINS"))


@pytest.mark.parametrize("case", CASES)
def test_what_is_said_of_it(install, monkeypatch, say, case):
    install("good", *CASES[case])
    names = ["kdb_good", *SELECTED.get(case, [f"kdb_{case}"])]
    monkeypatch.setenv("KDBENCH_PLUGINS", ",".join(names))
    code, out, err = say("plugins", "list")
    text = f"$ kdbench plugins list\n{out}{err}(exit code {code})\n"
    assert code == 3
    code, out, err = say("list", "reducers")
    text += f"\n$ kdbench list reducers\n{out}{err}(exit code {code})\n"
    assert code == 0  # what is wrong with one is a warning to whoever uses the others
    assert ("good-reducer" in out) == (case != "same_id")
    monkeypatch.setenv("KDBENCH_STRICT", "1")
    code, out, err = say("list", "reducers")
    text += f"\n$ KDBENCH_STRICT=1 kdbench list reducers\n{out}{err}(exit code {code})\n"
    assert code == 3
    assert out == ""
    golden = GOLDEN / f"{case}.txt"
    if os.environ.get("KDBENCH_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
def test_everything_else_still_works(install, say, case):
    install("good", *CASES[case])
    code, out, _ = say("show", "reducers/pca", "--json")
    assert code == 0
    assert json.loads(out)["id"] == "reducers/pca"
    code, out, _ = say("show", "schemes/good-taught", "--json")
    assert code == 0
    assert json.loads(out)["spec"]["needs"] == ["teacher_logits", "unlabelled"]


def test_every_broken_fixture_has_its_golden_file():
    broken = {p.name for p in PLUGINS.iterdir() if any(p.glob("*.dist-info"))} - {"good", "raising_observer"}
    assert broken == {name for names in CASES.values() for name in names}
    assert {p.stem for p in GOLDEN.glob("*.txt")} == set(CASES)


def test_a_newer_api_is_refused_before_its_hooks_are_called(install, say):
    install("newer_api")
    code, out, _ = say("plugins", "list", "--json")
    (row,) = [r for r in json.loads(out) if r["name"] == "kdb_newer_api"]
    assert code == 3
    assert (row["status"], row["components"]) == ("failed", [])
    (failure,) = row["failures"]
    assert f"API 7 of plugins, and kdbench VERSION has {API_VERSION}" in failure["what"]
    assert failure["where"] == "PLUGINS/newer_api/kdb_newer_api.py:5"
    assert "pip install -U kdbench" in failure["hint"]


def global_numpy() -> list[int]:
    return np.random.get_state()[1].tolist()  # noqa: NPY002


def test_json_stays_json_beside_a_plugin_that_prints(install, say):
    install("good", "rude")
    before = random.getstate(), global_numpy()
    code, out, _ = say("list", "reducers", "--json")
    assert code == 0
    assert {r["name"] for r in json.loads(out)["reducers"]} >= {"rude", "good-reducer"}
    assert (random.getstate(), global_numpy()) == before  # its seeding was undone


def test_the_doctor_shows_the_original_error(install, say):
    install("import_error")
    code, out, _ = say("plugins", "doctor")
    assert code == 3
    assert "Traceback (most recent call last)" in out
    assert "import kdb_nowhere" in out
    assert "Traceback" not in say("plugins", "list")[1]


def test_components_that_lack_a_requirement_are_told(install, say, monkeypatch):
    install("good")
    monkeypatch.setenv("KDBENCH_PLUGINS", "kdb_good")
    code, out, _ = say("plugins", "list")
    assert code == 0  # nothing is wrong with the plugin
    assert "reducers/good-absent needs kdb-nowhere>=2" in out
    code, _, err = say("show", "reducers/good-absent")
    assert code == 3
    assert 'pip install "kdb-nowhere>=2"' in err


def test_a_handler_that_keeps_stdout_goes_on_printing(install, tmp_path, capsys):
    install()
    file = tmp_path / "keeps.py"
    file.write_text("import sys\nmine = sys.stdout\n")
    from kdbench.registry import Registry

    Registry.discover(files=[file])
    sys.modules["kdbench_file_keeps"].mine.write("later")
    assert capsys.readouterr().out == "later"
