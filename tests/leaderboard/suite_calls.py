"""The leaderboard's functions, called with a suite in place of its settings."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from kdbench import leaderboard
from kdbench.api.records import CellRecord
from kdbench.leaderboard import build, differences
from kdbench.leaderboard import samples as samples_module
from kdbench.leaderboard.board import Board
from kdbench.plan.settings import SuiteSettings
from kdbench.registry import Registry
from kdbench.suite.schema import Suite


@cache
def installed() -> Registry:
    """The registry of the installed plugins."""
    return Registry.discover()


def reference(suite: Suite | None, base: Suite | None = None) -> SuiteSettings | None:
    return None if suite is None else SuiteSettings(suite, installed(), base)


def board_of(
    cells: Iterable[CellRecord], suite: Suite | None = None, *, base: Suite | None = None, given: str = ""
) -> Board:
    return build.board_of(list(cells), reference(suite, base), suite_name="demo", scale="quick", given=given)


def collate(cells: Iterable[CellRecord], suite: Suite | None = None) -> list[Any]:
    return leaderboard.collate(cells, reference(suite))


def evaluate(cells: Iterable[CellRecord], suite: Suite, *, base: Suite | None = None) -> list[Any]:
    return leaderboard.evaluate(cells, reference(suite, base))


def samples(cells: Iterable[CellRecord], suite: Suite | None = None) -> list[Any]:
    return samples_module.samples(cells, reference(suite))


def departures(cells: Iterable[CellRecord], suite: Suite) -> list[str]:
    return differences.departures(cells, reference(suite))
