"""Errors for parameters out of range name the parameter, its value and the range."""

from __future__ import annotations

import math

import pytest

from kdbench.errors import SuiteError


@pytest.mark.parametrize(
    ("name", "params", "sentence"),
    [
        ("hinton", {"temperature": 0.0}, "temperature=0.0: a finite number, above 0"),
        ("hinton", {"temperature": math.inf}, "temperature=inf: a finite number, above 0"),
        ("hinton", {"ce_weight": -1.0}, "ce_weight=-1.0: a finite number, at least 0"),
        ("hinton", {"ce_weight": 0.0, "weight": 0.0}, "weight=0.0: above 0 where ce_weight is 0"),
        ("logits-mse", {"variant": "torch"}, "variant='torch'"),
        ("dkd", {"warmup": 1.5}, "warmup=1.5: a finite number, at least 0 and at most 1"),
        ("dkd", {"beta": -8.0}, "beta=-8.0"),
        ("dist", {"gamma": float("nan")}, "gamma=nan"),
        ("logit-standardization", {"temperature": -2.0}, "temperature=-2.0"),
        ("multi-teacher", {"teachers": 1}, "teachers=1: an integer, at least 2"),
        ("multi-teacher", {"average": "votes"}, "average='votes'"),
        ("quantized", {"bits": 0}, "bits=0: an integer, at least 1 and at most 16"),
        ("quantized", {"bucket": 1}, "bucket=1: an integer, at least 2"),
        ("quantized", {"method": "rounding"}, "method='rounding'"),
        ("simclr", {"smallest": 0.0}, "smallest=0.0: a number above 0 and at most 1"),
        ("simclr", {"layers": 0}, "layers=0: an integer, at least 1"),
        ("simclr2", {"labels": "all"}, "labels='all'"),
        ("simclr2", {"alpha": 2.0}, "alpha=2.0: a finite number, at least 0 and at most 1"),
        ("born-again", {"generations": 0}, "generations=0: an integer, at least 1"),
        ("mutual", {"peers": 0}, "peers=0: an integer, at least 1"),
        ("label-smoothing", {"epsilon": 1.1}, "epsilon=1.1: a finite number, at least 0 and at most 1"),
        ("tf-kd", {"correct": 1.0}, "correct=1.0: a number above 0 and below 1"),
        ("tf-kd", {"passes": 0}, "passes=0: an integer, at least 1"),
    ],
)
def test_value_out_of_range_is_rejected(plain_registry, name, params, sentence):
    with pytest.raises(SuiteError) as caught:
        plain_registry.check("schemes", name, params)
    assert sentence in str(caught.value)


def test_specs_have_references_and_mark_controls(plain_registry):
    everything = plain_registry.specs("schemes")
    ours = [s for s in everything if s.target.startswith("kdbench_schemes.")]
    assert len(ours) == 26
    assert [s.name for s in ours if not s.reference] == []
    controls = {s.name: s.control for s in ours if s.control}
    assert controls.pop("teacher-copy") == "positive"
    negative = ("label-smoothing", "random-teacher", "shuffled-teacher", "tf-kd")
    assert controls == dict.fromkeys(negative, "negative")
