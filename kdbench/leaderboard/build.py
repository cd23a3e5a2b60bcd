"""Cells to a leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdbench.api.records import CellRecord
from kdbench.leaderboard.board import Board, Directions
from kdbench.leaderboard.claims import evaluate
from kdbench.leaderboard.collate import collate
from kdbench.leaderboard.differences import departures
from kdbench.leaderboard.samples import Sample, failures, samples

if TYPE_CHECKING:
    from kdbench.suite.schema import Suite


def board_of(
    cells: Sequence[CellRecord],
    suite_name: str,
    scale: str,
    suite: Suite | None = None,
    directions: Directions | None = None,
    *,
    unchanged: Suite | None = None,
    given: str = "",
) -> Board:
    """Collate the cells of one scale of a suite.

    Args:
        suite: gives title, published numbers, claims and assumptions; without it these are left out.
        directions: metric name to whether higher is better, to mark the best.
        unchanged: the suite without overrides, where `suite` has some: what the board says was changed, and what
            its claims are about.
        given: see `Board`.
    """
    cells = [c for c in cells if c.suite == suite_name and c.scale == scale]
    taken = samples(cells, suite)
    return Board(
        suite_name=suite_name,
        scale=scale,
        rows=collate(cells, suite, taken),
        claims=evaluate(cells, suite, taken, unchanged=unchanged) if suite else (),
        failed=failures(cells),
        suite=suite,
        directions=directions or {},
        changes=changes(taken, unchanged or suite) if suite else (),
        seeds=sorted({seed for sample in taken if not sample.variant for seed, _ in sample.values}),
        given=given,
    )


def changes(taken: Sequence[Sample], suite: Suite) -> list[str]:
    """What the main experiment of these samples has otherwise than the suite says."""
    main = [sample for sample in taken if not sample.variant]
    cells = {id(c): c for sample in main for c in sample.cells.values()}
    return departures(cells.values(), suite, [sample.measuring for sample in main])
