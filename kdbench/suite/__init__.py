"""Suites: what to run. Names are imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdbench.suite.load import ResolvedSuite, dump, json_schema, load_suite, scales
    from kdbench.suite.schema import Claim, Component, Data, Published, Student, Suite, Teacher, Training
    from kdbench.suite.source import SuiteFile, read_suite
    from kdbench.suite.toml import to_toml

_HOME = {
    "ResolvedSuite": "load",
    "dump": "load",
    "json_schema": "load",
    "load_suite": "load",
    "scales": "load",
    "Claim": "schema",
    "Component": "schema",
    "Data": "schema",
    "Published": "schema",
    "Student": "schema",
    "Suite": "schema",
    "Teacher": "schema",
    "Training": "schema",
    "SuiteFile": "source",
    "read_suite": "source",
    "to_toml": "toml",
}

__all__ = [
    "Claim",
    "Component",
    "Data",
    "Published",
    "ResolvedSuite",
    "Student",
    "Suite",
    "SuiteFile",
    "Teacher",
    "Training",
    "dump",
    "json_schema",
    "load_suite",
    "read_suite",
    "scales",
    "to_toml",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
