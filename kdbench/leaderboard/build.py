"""From a tracking store to the files of a leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench.api.records import CellRecord
from kdbench.errors import WorkspaceError
from kdbench.leaderboard.claims import evaluate
from kdbench.leaderboard.collate import collate
from kdbench.leaderboard.differences import departures
from kdbench.leaderboard.markdown import to_markdown
from kdbench.leaderboard.page import to_html
from kdbench.leaderboard.render import Board, to_csv, to_json, to_tex
from kdbench.leaderboard.samples import Sample, failures, samples
from kdbench.leaderboard.tables import Directions
from kdbench.store import replace_files

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


def build(
    suite_name: str,
    scale: str,
    out: Path,
    tracking_uri: str | None,
    workspace: Path,
    suite: Suite | None = None,
    *,
    directions: Directions | None = None,
    cells: Sequence[CellRecord] | None = None,
    given: str = "",
) -> list[Path]:
    """Write README.md, leaderboard.csv and .json, index.html and table.tex to `<out>/<suite>/<scale>/`.

    Args:
        tracking_uri, workspace: where the cells are (`kdbench.tracking.Tracker`).
        cells: of a store that was read already, oldest first.
        given: see `Board`.

    Returns:
        The paths written.

    Raises:
        WorkspaceError: the store is not there, holds no cell of this suite and scale, or `out` can't be
        written.
    """
    from kdbench import tracking

    uri = tracking.tracking_uri(tracking_uri, workspace)
    if cells is None:
        cells = tracking.fetch_cells(uri, suite_name, scale)
    board = board_of(cells, suite_name, scale, suite, directions, given=given)
    if not board.rows and not board.failed:
        raise WorkspaceError(
            f"no cell of {suite_name!r} at scale {scale!r} in the tracking store",
            where=uri,
            hint=f"kdbench run {suite_name} --scale {scale}, or `kdbench track sync` if it has run elsewhere",
        )
    return write(board, Path(out))


def write(board: Board, out: Path) -> list[Path]:
    """Write the files of a board below `out`, all of them or none; see `build`."""
    folder = out / board.suite_name / board.scale
    texts = {
        "README.md": to_markdown(board),
        "leaderboard.csv": to_csv(board.rows),
        "leaderboard.json": to_json(board),
        "index.html": to_html(board),
        "table.tex": to_tex(board),
    }
    try:
        replace_files({folder / name: text.encode() for name, text in texts.items()})
    except OSError as error:
        raise WorkspaceError(
            f"the leaderboard can't be written: {error.strerror or error}",
            where=str(folder),
            hint="make room there, or choose another --out; what was there before is still there",
        ) from error
    return [folder / name for name in texts]
