"""`kdbench show`: all that can be said of a component, for people and as JSON."""

from __future__ import annotations

import json

import pytest

from kdbench.cli import main as frame


@pytest.fixture
def shown(capsys):
    """`shown(what)`: what `kdbench show --json` says."""

    def show(what: str, *args: str) -> dict:
        code = frame.invoke(["show", what, "--json", *args])
        out, err = capsys.readouterr()
        assert code == 0, err
        return json.loads(out)

    return show


def test_an_architecture_has_its_taps_from_input_to_output(shown):
    data = shown("architectures/wide-resnet")
    assert list(data["taps"].items()) == [
        ("A", "conv1"), ("B", "group1"), ("C", "group2"), ("D", "group3"), ("E", "pool"),
    ]  # fmt: skip
    assert data["parameters"]["depth"] == {"type": "int", "default": 28}
    assert "Zagoruyko" in data["reference"]
    assert data["origin"].startswith("kdbench_networks (kdbench ")


def test_a_scheme_and_a_metric_say_what_they_need(shown):
    assert "teacher_logits" in shown("schemes/kl")["spec"]["needs"]
    metric = shown("metrics/neighbourhood-hit")
    assert "embedding" in metric["spec"]["needs"]
    assert metric["parameters"]["k"] == {"type": "int", "default": 10}
    assert "taps" not in metric


ARCHITECTURES = """
from kdbench.api import ArchitectureSpec, hookimpl
from kdbench.errors import DataError

class Absent:
    def build(self, n_classes, input_shape):
        raise DataError("weights.pt is not there")

class Broken:
    def build(self, n_classes, input_shape):
        return 1 / 0

class Asked:
    def __init__(self, *, path: str):
        self.path = path

@hookimpl
def kdbench_architectures():
    return [ArchitectureSpec(name=n, target=f"nets:{n.title()}", summary="") for n in ("absent", "asked", "broken")]
"""


def test_taps_that_can_not_be_read_are_told_and_the_rest_is_shown(shown, install, tmp_path, capsys):
    install()
    file = tmp_path / "nets.py"
    file.write_text(ARCHITECTURES)
    said = shown("architectures/absent", "--plugin", str(file))["taps"]
    assert said == "unknown, because the network can't be built: weights.pt is not there"
    said = shown("architectures/broken", "--plugin", str(file))["taps"]
    assert said == f"unknown: ZeroDivisionError: division by zero ({file}:11)"
    data = shown("architectures/asked", "--plugin", str(file))
    assert data["taps"] == "depend on path, without a default"
    assert data["parameters"] == {"path": {"type": "str", "required": True}}
    assert frame.invoke(["show", "architectures/asked", "--plugin", str(file)]) == 0
    assert "depend on path" in capsys.readouterr().out
