"""The projection of scale `paper` from stages that were measured."""

import os
from pathlib import Path

import pytest


def work(kind: str, amount: float, each: float, measured: bool = True) -> dict:
    return {"kind": kind, "component": "", "unit": "images", "work": amount, "seconds_per_unit": each,
            "seconds": amount * each, "measured": measured}  # fmt: skip


def test_students_side_by_side_take_their_share_and_embeddings_come_on_top(peers):
    paper_scale = peers("paper_scale")
    parts = [work("teacher", 600, 1.0), work("student", 1200, 0.5), work("embedding", 60, 2.0)]
    assert paper_scale.minutes(parts, 1) == {"training": 20, "everything": 22}
    assert paper_scale.minutes(parts, 4) == {"training": 12.5, "everything": 14.5}


def test_a_guess_is_called_one(peers):
    lines = peers("paper_scale").rows([work("student", 2e6, 1e-3), work("teacher", 10, 0.3, False)])
    assert lines[0] == ("student", "2 M images", "1 ms", "33 min", "measured here")
    assert lines[1][-1] == "a rough guess"


@pytest.mark.realdata
def test_nothing_is_kept_of_a_machine_without_a_gpu(peers, tmp_path, monkeypatch, capsys):
    """The real plan of the paper's own setting, over an empty workspace."""
    data = Path(os.environ.get("KDBENCH_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not (data / "cifar100").is_dir():
        pytest.skip("no CIFAR-100 in KDBENCH_DATA or ../shared/data")
    paper_scale = peers("paper_scale")
    kept = tmp_path / "paper_scale.json"
    monkeypatch.setattr(paper_scale, "RECORD", kept)
    more = ["--set", "teacher.architecture.weights=none", "--data-dir", str(data)]
    monkeypatch.setattr("sys.argv", ["paper_scale.py", str(tmp_path / "w"), *more, "--keep"])
    assert paper_scale.main() == 1
    out, err = capsys.readouterr()
    assert "student" in err
    assert not kept.exists()
    assert "| student schemes/kl | 250 M images |" in out
    assert paper_scale.plan(tmp_path / "w", more)["results"] == 75
