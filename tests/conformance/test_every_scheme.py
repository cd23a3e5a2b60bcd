"""What holds for every scheme that kdbench ships, its variants too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from kdbench.registry import Registry
from kdbench.testing import Target, parametrize_with_checks

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


def targets() -> Iterator[Target]:
    registry = Registry.discover()
    for spec in registry.specs("schemes"):
        variants = [{"variant": v} for v in spec.variants]  # type: ignore[attr-defined]
        for params in [{}, *variants[1:], *MORE.get(spec.name, [])]:
            yield Target("schemes", spec.name, registry, params)


@parametrize_with_checks(targets())
def test_a_scheme_keeps_its_contract(check):
    check()


def test_specs_say_which_variants_there_are_the_default_first(plain_registry):
    for spec in plain_registry.specs("schemes"):
        variant = plain_registry.parameters("schemes", spec.name).get("variant")
        allowed = set(get_args(variant.annotation)) if variant else set()
        assert set(spec.variants) == allowed, spec.name
        assert not allowed or spec.variants[0] == variant.default, spec.name


def test_schemes_whose_minimum_is_known_say_so(plain_registry):
    for name in AT_LEAST:
        assert plain_registry.create("schemes", name).minimum_at_teacher, name
