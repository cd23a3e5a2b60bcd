"""The helper that times peers side by side."""

import json

import pytest


def test_sides_take_turns_and_the_first_round_does_not_count(peers):
    sidebyside = peers("_sidebyside")
    calls = []
    sides = {name: lambda name=name: calls.append(name) or len(calls) for name in ("a", "b")}
    measured = sidebyside.interleave(sides, rounds=3, dropped=1)
    assert calls == ["a", "b"] * 4
    assert measured.results == {"a": [3, 5, 7], "b": [4, 6, 8]}
    assert len(measured.load) == len(measured.wall["a"]) == len(measured.cpu["b"]) == 3


def test_ratios_are_of_one_round(peers):
    measured = peers("_sidebyside").Measured(
        wall={"slow": [4.0, 90.0], "fast": [2.0, 30.0]},
        cpu={"slow": [3.0, 8.0], "fast": [1.0, 1.0]},
        results={},
    )
    assert measured.ratios("fast", "slow") == [2.0, 3.0]
    assert measured.ratios("fast", "slow", cpu=True) == [3.0, 8.0]


def test_processor_time_of_threads_and_ended_children_counts(peers):
    import subprocess
    import sys

    burn = "import time\nwhile time.process_time() < 0.2: pass"
    side = {"child": lambda: subprocess.run([sys.executable, "-S", "-c", burn], check=True)}
    measured = peers("_sidebyside").interleave(side, rounds=1, dropped=0)
    assert measured.cpu["child"][0] >= 0.2


def test_a_record_holds_what_the_table_shows(peers, tmp_path):
    sidebyside = peers("_sidebyside")
    measured = sidebyside.Measured(
        wall={"peer": [4.0, 6.0], "kdbench": [2.0, 2.0]},
        cpu={"peer": [4.0, 4.0], "kdbench": [1.0, 1.0]},
        results={}, load=[0.5, 1.5],
    )  # fmt: skip
    machine = sidebyside.describe_machine("pytest", "no-such-distribution")
    text = sidebyside.table(
        "peer", measured, against="peer", machine=machine, agreement={"loss": "1e-7"},
        more={"epochs": 3}, folder=tmp_path,
    )  # fmt: skip
    record = json.loads((tmp_path / "peer.json").read_text())
    assert record["faster_wall"] == {"kdbench": [2.0, 3.0]}
    assert record["epochs"] == 3
    assert record["machine"]["versions"]["pytest"] == pytest.__version__
    assert "no-such-distribution" not in record["machine"]["versions"]
    assert "| kdbench | 2.00 s (2.00 to 2.00) | 1.00 s (1.00 to 1.00) | 2.50x (2.00 to 3.00) | 4.00x" in text
    assert "agreement, loss: 1e-7" in text
    assert "load 0.5 to 1.5" in text


def test_no_round_is_refused(peers):
    with pytest.raises(ValueError, match="rounds=0"):
        peers("_sidebyside").interleave({}, rounds=0)
