"""From a tracking store to the files of a leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench.api.records import CellRecord
from kdbench.errors import WorkspaceError
from kdbench.leaderboard.board import Directions
from kdbench.leaderboard.build import board_of
from kdbench.rendering.files import write

if TYPE_CHECKING:
    from kdbench.suite.schema import Suite


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
