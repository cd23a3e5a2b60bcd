"""Write a report: figures, tables and the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench.errors import DataError, WorkspaceError
from kdbench.report import figures, tables
from kdbench.report.classes import known_classes
from kdbench.report.fingerprint import INPUT
from kdbench.report.metric_figures import Gallery, Stored, galleries
from kdbench.report.metrics import primary_values, shown_elsewhere
from kdbench.report.page import Item, page
from kdbench.report.selection import Missing, Selection
from kdbench.report.style import Drawing, arrange, styled
from kdbench.store import replace_files

if TYPE_CHECKING:
    from kdbench.api import CellRecord
    from kdbench.api.data import ImageData
    from kdbench.leaderboard.claims import ClaimVerdict
    from kdbench.leaderboard.rows import Row
    from kdbench.suite.schema import Suite


def write(
    records: Sequence[CellRecord],
    *,
    suite: Suite,
    out: Path,
    store_root: Path,
    rows: Sequence[Row],
    claims: Sequence[ClaimVerdict],
    superclass_of: Sequence[int] | None,
    superclass_names: Sequence[str],
    dataset: Callable[[], ImageData] | None,
    changes: Sequence[str],
    digest: str,
) -> list[Path]:
    """See `kdbench.report.write_report`; `digest` is that of the input, kept next to the page."""
    data = Selection.of(records, suite, store_root)
    known = known_classes(data.records, suite, dataset, superclass_of, superclass_names)
    ordered = sorted(records, key=lambda r: (r.budget, r.fold, r.scheme, r.key))
    with styled():
        items: list[Item] = [
            *_made("Accuracy", lambda: tables.accuracy(data)),
            *_made("Accuracy by number of labels", lambda: figures.accuracy(data)),
            *_made(
                "Output correlation within superclasses",
                lambda: figures.superclass_correlation(data, superclass_names),
            ),
            *_made("Converged ivis loss", lambda: tables.ivis_loss(data)),
            *_made("Class area", lambda: figures.class_area(data)),
            *primary_values(data, shown_elsewhere(data)),
            *_made("Embeddings", lambda: figures.embeddings(data, known)),
            *tables.embedding_time(data),
            *galleries(data),
        ]
        for item in items:
            if isinstance(item, Drawing):
                arrange(item.figure)
        text = page(
            items,
            suite=suite,
            records=ordered,
            rows=rows,
            claims=claims,
            changes=changes,
        )
        drawings = [d for i in items for d in (i.drawings if isinstance(i, Gallery) else (i,))]
        return _save(text, [d for d in drawings if isinstance(d, (Drawing, Stored))], Path(out), digest)


def _made(title: str, make: Callable[[], Sequence[Item]]) -> Sequence[Item]:
    """What `make` makes; an array that is gone or does not fit leaves its figure out, with that reason."""
    try:
        return make()
    except DataError as error:
        return [Missing(title, f"{error.where}: {error.what}" if error.where else error.what)]


def _save(text: str, drawings: Sequence[Drawing | Stored], out: Path, digest: str) -> list[Path]:
    folder = out / "figures"
    contents = {out / "report.html": text.encode()}
    for drawing in drawings:
        for suffix, content in ((".png", drawing.png), (".svg", drawing.svg.encode())):
            contents[folder / (drawing.name + suffix)] = content
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (out / INPUT).unlink(missing_ok=True)  # interrupted here, the page is of nothing that is known
        replace_files(contents)
        (out / INPUT).write_text(digest, encoding="ascii")
    except OSError as error:
        raise WorkspaceError(
            f"the report can't be written: {error.strerror or error}",
            where=str(error.filename or out),
            hint="make that folder writable, or choose another one",
        ) from error
    return list(contents)
