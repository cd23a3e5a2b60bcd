"""Build a leaderboard from cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdbench.api.records import CellRecord
from kdbench.leaderboard.board import Board, directions_of
from kdbench.leaderboard.claims import evaluate
from kdbench.leaderboard.collate import collate
from kdbench.leaderboard.differences import departures
from kdbench.leaderboard.samples import Sample, failures, samples

if TYPE_CHECKING:
    from kdbench.plan.settings import SuiteSettings


def board_of(
    cells: Sequence[CellRecord],
    reference: SuiteSettings | None,
    *,
    suite_name: str,
    scale: str,
    given: str = "",
) -> Board:
    """Collate the cells of one scale of a suite.

    Parameters
    ----------
    cells
        Cells, oldest first; those of other suites and scales are ignored.
    reference
        Gives title, published numbers, claims and assumptions; without it these are missing.
    suite_name
        Which cells.
    scale
        Which cells.
    given
        The suite as commands take it; see `Board`.

    Returns
    -------
    Board
        Everything that a leaderboard shows.
    """
    cells = [c for c in cells if c.suite == suite_name and c.scale == scale]
    found = samples(cells, reference)
    main = [sample for sample in found if not sample.variant]
    return Board(
        suite_name=suite_name,
        scale=scale,
        rows=collate(cells, reference, found),
        claims=evaluate(cells, reference, found) if reference else (),
        failed=failures(cells),
        suite=reference.suite if reference else None,
        directions=directions_of(reference.registry) if reference else {},
        changes=_changes(main, reference) if reference else (),
        seeds=sorted({seed for sample in main for seed, _ in sample.values}),
        given=given,
    )


def _changes(main: Sequence[Sample], reference: SuiteSettings) -> list[str]:
    """What the main experiment has in another way than the suite without overrides says."""
    cells = {id(c): c for sample in main for c in sample.cells.values()}
    return departures(cells.values(), reference.written, [sample.measuring for sample in main])
