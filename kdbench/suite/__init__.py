"""Suites: what to run."""

from kdbench.suite.load import ResolvedSuite, dump, json_schema, load_suite, scales
from kdbench.suite.schema import Claim, Component, Data, Published, Student, Suite, Teacher, Training
from kdbench.suite.source import SuiteFile, read_suite
from kdbench.suite.toml import to_toml

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
