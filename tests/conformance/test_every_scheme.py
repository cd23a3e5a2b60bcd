"""What holds for every scheme that kdbench ships, its variants too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kdbench.registry import Registry
from kdbench.testing import SCHEME_CHECKS, SchemeBench, check_scheme

#: Parameters that lead elsewhere than the defaults do.
MORE: dict[str, list[dict[str, Any]]] = {
    "born-again": [{"pool": False}],
    "mutual": [{"peers": 2}],
    "multi-teacher": [{"teachers": 2, "average": "logits"}],
    "quantized": [{"method": "differentiable-quantization", "bits": 2}],
    "simclr2": [{"labels": "mixed"}],
}

#: Of the terms that schemes say are least where student and teacher are equal.
AT_LEAST = {
    "hinton",
    "logits-mse",
    "dkd",
    "dist",
    "logit-standardization",
    "multi-teacher",
    "born-again",
    "simclr2",
}


def cases() -> Iterator[Any]:
    for spec in Registry.discover().specs("schemes"):
        variants = [{"variant": v} for v in spec.variants]  # type: ignore[attr-defined]
        for params in [{}, *variants[1:], *MORE.get(spec.name, [])]:
            words = [spec.name, *(f"{k}={v}" for k, v in params.items())]
            yield pytest.param(spec.name, params, id=" ".join(words))


@pytest.mark.parametrize(("name", "params"), list(cases()))
def test_a_scheme_keeps_its_contract(plain_registry, name, params):
    findings = check_scheme(SchemeBench(name, plain_registry, params))
    assert len(findings) == len(SCHEME_CHECKS)
    assert not [f"{f.check}: {f.sentence}" for f in findings if f.status == "broken"]


def test_schemes_whose_minimum_is_known_say_so(plain_registry):
    for name in AT_LEAST:
        assert plain_registry.create("schemes", name).minimum_at_teacher, name
