"""A suite's figures and tables next to the published ones: one HTML page, and each figure as PNG and SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdbench.api import CellRecord
    from kdbench.api.data import ImageData
    from kdbench.leaderboard.claims import ClaimVerdict
    from kdbench.leaderboard.rows import Row
    from kdbench.suite.schema import Suite


def write_report(
    records: Sequence[CellRecord],
    *,
    suite: Suite,
    out: Path,
    store_root: Path,
    rows: Sequence[Row] = (),
    claims: Sequence[ClaimVerdict] = (),
    superclass_of: Sequence[int] | None = None,
    superclass_names: Sequence[str] = (),
    dataset: Callable[[], ImageData] | None = None,
    changes: Sequence[str] = (),
    again: bool = True,
) -> list[Path]:
    """Write `out`/report.html and `out`/figures/*.png, *.svg; the same bytes for the same input.

    Parameters
    ----------
    records
        Cells of one suite at one scale, failed ones included.
    suite
        Gives titles, the order of schemes and taps, published numbers and assumptions.
    out
        A folder, created if needed; files of an earlier report there are replaced.
    store_root
        What the paths in `CellRecord.arrays` are relative to.
    rows, claims
        Of the leaderboard.
    superclass_of, superclass_names
        Of the dataset, where neither it nor the records' arrays have them.
    dataset
        Loads the dataset, for classes of embedded points and their names. An embedding whose points have no known
        class is drawn in one colour.
    changes
        Overrides.
    again
        Whether to draw the page even if one of the same input is there.

    Returns
    -------
    list of Path
        The files written, the page first; only the page if it was left as it is. What could not be drawn is named on
        the page, with the reason.

    Raises
    ------
    WorkspaceError
        `out` can't be written.
    """
    from kdbench.report.fingerprint import digest, is_current

    of = digest(
        records,
        suite,
        rows=[row.to_dict() for row in rows],
        claims=[v.to_json() for v in claims],
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
        rows=rows,
        claims=claims,
        superclass_of=superclass_of,
        superclass_names=superclass_names,
        dataset=dataset,
        changes=changes,
        digest=of,
    )


__all__ = ["write_report"]
