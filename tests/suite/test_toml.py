"""Suites and overrides written as TOML."""

from __future__ import annotations

import tomllib

import pytest

from kdbench.suite.toml import inline, to_toml

VALUES = [
    True, 3, 1e-6, 'say "hi"\n\x7f', [], [1, 2], ["pca", {"name": "tsne", "perplexity": 5}], {}, {"a.b": {"c": [1]}},
    [{"where": "Table 1 " * 20, "value": 0.5}, {"where": "Table 2 " * 20, "value": 0.25}],
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_an_inline_value_is_read_back(value):
    assert tomllib.loads(f"x = {inline(value)}") == {"x": value}


def test_none_is_left_out_of_tables():
    assert inline({"a": None, "b": 1}) == "{ b = 1 }"
    assert tomllib.loads(to_toml({"a": None, "b": {"c": None, "d": {}}, "e": (1, 2)})) == {"e": [1, 2]}


@pytest.mark.parametrize(
    "write", [lambda: inline([None]), lambda: inline(object()), lambda: to_toml({"a": object()})]
)
def test_a_value_that_toml_does_not_have_is_refused(write):
    with pytest.raises(TypeError):
        write()
