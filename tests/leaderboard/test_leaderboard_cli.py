"""The three verbs on a small real workspace."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from synthetic_cells import cells

from kdbench.api.records import Result
from kdbench.errors import KdbenchError, VerificationError, WorkspaceError

SUITE = """
name = "demo"
title = "A demonstration"
default_scale = "quick"
[data]
dataset = "digits"
budgets = [400, 2500]
folds = 5
[student]
architecture = "wide-resnet"
[[claim]]
id = "kl-beats-undistilled"
text = "Distilled beats undistilled"
where = "5.1"
metric = "accuracy"
value_name = "accuracy"
left = { scheme = "kl" }
right = { scheme = "undistilled" }
expect = "greater"
[scales.quick]
"""


@pytest.fixture(scope="module")
def synced(tmp_path_factory):
    """A workspace whose records are in its tracking store, and a suite file."""
    from kdbench.cli.track import command
    from kdbench.store import Store

    folder = tmp_path_factory.mktemp("cli")
    (folder / "demo.toml").write_text(SUITE)
    store = Store(folder / "work")
    for cell in cells(2):
        store.save_cell(cell)
    arguments = ["sync", "--workspace", str(folder / "work"), "--json"]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        first = CliRunner().invoke(command, arguments, catch_exceptions=False)
        second = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert (json.loads(first.output)["logged"], json.loads(second.output)["logged"]) == (12, 0)
    assert json.loads(second.output)["found"] == 12
    return folder


@pytest.fixture(autouse=True)
def no_tracking_uri(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def invoke(verb, *arguments):
    from importlib import import_module

    command = import_module(f"kdbench.cli.{verb}").command
    return CliRunner().invoke(command, [str(a) for a in arguments])


def suite_and_work(folder: Path):
    return folder / "demo.toml", "--workspace", folder / "work"


def test_build_writes_every_scale_that_has_cells(synced, tmp_path):
    suite, *work = suite_and_work(synced)
    result = invoke("leaderboard", "build", suite, *work, "--out", tmp_path, "--json")
    assert result.exception is None, result.exception
    data = json.loads(result.stdout)
    assert data["scales"] == ["quick"]
    assert (tmp_path / "demo/quick/README.md").read_text().startswith("# A demonstration")
    assert str(tmp_path / "demo/quick/leaderboard.csv") in data["files"]


def test_build_leaves_out_a_scale_that_the_suite_no_longer_has_and_builds_the_others(tmp_path):
    from kdbench.store import Store

    store = Store(tmp_path / "work")
    for c in cells(2):
        for scale in ("gone", "quick"):  # in this order
            store.save_cell(replace(c, scale=scale, key=f"{c.key}-{scale}"))
    assert invoke("track", "sync", "--workspace", tmp_path / "work").exception is None
    (tmp_path / "demo.toml").write_text(SUITE)
    suite, *work = suite_and_work(tmp_path)
    result = invoke("leaderboard", "build", suite, *work, "--out", tmp_path / "out", "--json")
    assert isinstance(result.exception, KdbenchError)
    assert result.exception.exit_code == 2
    assert "no leaderboard of scale 'gone'" in str(result.exception)
    data = json.loads(result.stdout)
    assert (data["scales"], list(data["skipped"])) == (["quick"], ["gone"])
    assert (tmp_path / "out/demo/quick/README.md").is_file()
    assert not (tmp_path / "out/demo/gone").exists()


def test_build_without_cells_says_what_to_do(synced, tmp_path):
    suite, *_ = suite_and_work(synced)
    result = invoke("leaderboard", "build", suite, "--workspace", tmp_path)
    assert isinstance(result.exception, WorkspaceError)
    assert "no tracking database" in str(result.exception)


def test_build_names_the_scale_that_has_no_cells(synced, tmp_path):
    (tmp_path / "demo.toml").write_text(SUITE + "[scales.paper]\n")
    arguments = (tmp_path / "demo.toml", "--workspace", synced / "work", "--scale", "paper")
    result = invoke("leaderboard", "build", *arguments)
    assert isinstance(result.exception, WorkspaceError)
    assert "no cell of 'demo' at scale 'paper'" in str(result.exception)


def test_verify_gives_verdicts(synced):
    result = invoke("verify", *suite_and_work(synced), "--scale", "quick", "--json")
    assert result.exception is None, result.exception
    data = json.loads(result.stdout)
    assert (data["claims"][0]["verdict"], data["damaged"], data["cells"]) == ("supported", [], 12)
    shown = invoke("verify", *suite_and_work(synced), "--scale", "quick")
    assert "supported" in shown.output


def test_verify_says_that_a_suite_makes_no_claims(synced, tmp_path):
    text = (synced / "demo.toml").read_text()
    claims = text.index("[[claim]]")
    (tmp_path / "demo.toml").write_text(text[:claims] + text[text.index("[scales", claims) :])
    arguments = (tmp_path / "demo.toml", "--workspace", synced / "work")
    result = invoke("verify", *arguments)
    assert result.exit_code == 0
    assert result.output == "demo has no claims to evaluate; no stored result is damaged\n"
    assert json.loads(invoke("verify", *arguments, "--json").stdout)["claims"] == []


def test_verify_reads_a_tracking_store_where_one_is_named(synced, tmp_path):
    uri = f"sqlite:///{synced / 'work' / 'mlflow.db'}"
    result = invoke("verify", synced / "demo.toml", "--tracking-uri", uri, "--workspace", tmp_path, "--json")
    assert json.loads(result.stdout)["cells"] == 12


def test_a_contradicted_claim_exits_with_4(synced, tmp_path):
    from kdbench.store import Store

    store = Store(tmp_path / "work")
    for cell in cells(5):
        value = 0.9 if cell.scheme == "undistilled" else 0.1 + 0.001 * cell.fold
        store.save_cell(replace(cell, results=(Result("accuracy", "accuracy", value, primary=True),)))
    shutil.copy(synced / "demo.toml", tmp_path)
    result = invoke("verify", *suite_and_work(tmp_path))
    assert isinstance(result.exception, VerificationError)
    assert result.exception.exit_code == 4
    assert "kl-beats-undistilled" in str(result.exception)
    assert "contradicted" in result.output


@pytest.mark.parametrize("verb", [["verify"], ["leaderboard", "build"]])
def test_an_unknown_suite_or_scale(verb, synced):
    for arguments in (["nonsense"], [synced / "demo.toml", "--scale", "nonsense"]):
        result = invoke(*verb, *arguments, "--workspace", synced / "work")
        assert isinstance(result.exception, KdbenchError)
        assert result.exception.exit_code == 2


@pytest.mark.parametrize("arguments", [["verify", "demo.toml"], ["track", "sync"]])
def test_no_workspace_is_told_and_none_is_made(arguments, synced, tmp_path, monkeypatch):
    monkeypatch.chdir(synced)
    result = invoke(*arguments, "--workspace", tmp_path / "none")
    assert isinstance(result.exception, WorkspaceError)
    assert not (tmp_path / "none").exists()


@pytest.fixture
def damaged(synced, tmp_path) -> tuple[Path, Path]:
    """A copy of the workspace, and the one record in it that was cut off."""
    shutil.copytree(synced, tmp_path / "copy")
    path = tmp_path / "copy" / "work" / "cells" / "demo" / "quick" / "kl-400-0.json"
    path.write_text(path.read_text()[:50])
    return tmp_path / "copy", path


def test_verify_names_what_is_damaged_and_judges_by_the_rest(damaged):
    folder, path = damaged
    result = invoke("verify", *suite_and_work(folder), "--json")
    assert isinstance(result.exception, VerificationError)
    assert "1 stored results damaged" in str(result.exception)
    data = json.loads(result.stdout)
    assert (data["damaged"], data["cells"]) == ([str(path)], 11)
    for other in path.parent.glob("*.json"):
        other.write_text("")
    result = invoke("verify", *suite_and_work(folder), "--json")
    assert isinstance(result.exception, VerificationError)
    assert len(json.loads(result.stdout)["damaged"]) == 12


def test_verify_names_a_record_that_was_edited(synced, damaged):
    folder, path = damaged
    text = (synced / "work/cells/demo/quick" / path.name).read_text()
    path.write_text(text.replace('"value": 0.', '"value": 0.9'))
    result = invoke("verify", *suite_and_work(folder))
    assert f"damaged: {path}" in result.output
    assert isinstance(result.exception, VerificationError)
    assert result.exception.exit_code == 4


def test_sync_logs_what_is_whole_and_names_the_rest(damaged):
    folder, path = damaged
    uri = f"sqlite:///{folder / 'work' / 'mlflow.db'}"
    from kdbench.store import Store

    Store(folder / "work").save_cell(replace(cells(3)[-1], scale="paper"))
    result = invoke("track", "sync", "--workspace", folder / "work", "--tracking-uri", uri, "--json")
    assert isinstance(result.exception, VerificationError)
    assert str(path) in str(result.exception)
    assert "kdbench run demo" in result.exception.hint
    data = json.loads(result.stdout)
    assert (data["logged"], data["found"], data["damaged"]) == (1, 11, [str(path)])


def test_a_board_that_does_not_fit_leaves_the_old_one_whole(synced, tmp_path):
    suite, *work = suite_and_work(synced)
    assert invoke("leaderboard", "build", suite, *work, "--out", tmp_path).exception is None
    folder = tmp_path / "demo" / "quick"
    before = {}
    for path in folder.iterdir():
        path.write_bytes(b"old " + path.read_bytes())
        before[path] = path.read_bytes()
    code = (
        "import resource, sys\n"
        "from kdbench.cli.main import invoke\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)\n"
        "sys.exit(invoke(sys.argv[2:]))"
    )
    # the largest of them is written after others that would fit
    sizes = [len(content) for content in before.values()]
    assert min(sizes) < max(sizes) - 100
    command = [sys.executable, "-c", code, max(sizes) - 100, "leaderboard", "build", suite, *work]
    done = subprocess.run(
        [*map(str, command), "--out", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "the leaderboard can't be written: File too large" in done.stderr
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
