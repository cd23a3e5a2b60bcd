"""The files of a leaderboard."""

from __future__ import annotations

from pathlib import Path

from kdbench.errors import WorkspaceError
from kdbench.leaderboard.board import Board
from kdbench.rendering.export import to_csv, to_json, to_tex
from kdbench.rendering.html import to_html
from kdbench.rendering.markdown import to_markdown
from kdbench.store import replace_files


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
