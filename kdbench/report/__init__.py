"""A suite's figures and tables beside the published ones: one HTML page, and each figure as PNG and SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdbench.api import CellRecord
    from kdbench.api.data import ImageData
    from kdbench.suite.schema import Suite


def write_report(
    records: Sequence[CellRecord],
    *,
    suite: Suite,
    out: Path,
    store_root: Path,
    leaderboard_rows: Sequence[Mapping[str, Any]] | None = None,
    claims: Sequence[Mapping[str, Any]] | None = None,
    superclass_of: Sequence[int] | None = None,
    superclass_names: Sequence[str] = (),
    dataset: Callable[[], ImageData] | None = None,
    changes: Sequence[str] = (),
    again: bool = True,
) -> list[Path]:
    """Write `out`/report.html and `out`/figures/*.png, *.svg; the same bytes for the same input.

    Args:
        records: cells of one suite at one scale, failed ones included.
        suite: with its scale merged in: titles, order of schemes and taps, published numbers, assumptions.
        out: a folder, made where it is missing; files of an earlier report there are replaced.
        store_root: what the paths in `CellRecord.arrays` are relative to.
        leaderboard_rows: rows of `leaderboard.csv`, shown as they are.
        claims: verdicts with "text", "where", "verdict" and, where known, "effect", "low", "high", "n",
            "descriptive" and "decisive" (what was compared).
        superclass_of, superclass_names: of the dataset, where neither it nor the records' arrays say: the
            metric superclass-correlation leaves "names", class-area leaves "label" and "superclass".
        dataset: loads what the records are of: the classes of embedded points, and the names of classes and
            superclasses. Asked for when the page is drawn. An embedding whose points have no known class is
            drawn in one colour.
        changes: what was done otherwise than the suite file says.
        again: with False, a page in `out` that was made from this very input is left as it is.

    Returns:
        The files written, the page first; the page alone where it was left. What could not be drawn is named on
        the page, with the reason.

    Raises:
        WorkspaceError: `out` can't be written.
    """
    from kdbench.report.fingerprint import digest, is_current

    of = digest(
        records,
        suite,
        rows=list(leaderboard_rows or ()),
        claims=list(claims or ()),
        superclasses=[[int(s) for s in (() if superclass_of is None else superclass_of)], *superclass_names],
        changes=list(changes),
    )
    if not again and is_current(Path(out), of):
        return [Path(out) / "report.html"]
    from kdbench.report.write import write

    return write(
        records,
        suite=suite,
        out=out,
        store_root=store_root,
        leaderboard_rows=leaderboard_rows or (),
        claims=claims or (),
        superclass_of=superclass_of,
        superclass_names=superclass_names,
        dataset=dataset,
        changes=changes,
        digest=of,
    )


__all__ = ["write_report"]
