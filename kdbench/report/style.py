"""The common style of all figures. Uses the object interface of matplotlib, not pyplot."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from kdbench.report.selection import TEACHER, UNDISTILLED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The first two stand for the page's own colours, which change with the reader's scheme.
INK = "#1b1c1e"
GRID = "#dfe1e5"
GREY = "#7a7f87"
_WHITE = "#ffffff"
#: Okabe and Ito's colours, told apart by colour-blind readers, without the two that vanish on white or black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
MARKERS = ("o", "s", "^", "D", "v", "P")
#: Of classes, of which there are more than schemes: ten colours, and after ten classes another marker.
CLASS_COLOURS = (*COLOURS, "#7f3fbf", "#8c564b", "#a3ad00", GREY)
CLASS_MARKERS = ("o", "^", "s", "P", "D", "v", "X", "*", "<", ">")

_RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.labelsize": 9.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "kdbench",
}


@dataclass(frozen=True)
class Drawing:
    """A figure with its name (of the files), title and caption."""

    name: str
    title: str
    caption: str
    figure: Figure

    @cached_property
    def svg(self) -> str:
        """A standalone file on white."""
        buffer = io.StringIO()
        metadata = {"Date": None, "Creator": None}
        self.figure.savefig(buffer, format="svg", dpi=160, facecolor=_WHITE, metadata=metadata)
        return buffer.getvalue()

    @cached_property
    def png(self) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=160, facecolor=_WHITE, metadata={"Software": None})
        return buffer.getvalue()


@contextmanager
def styled() -> Iterator[None]:
    """Figures made and saved inside have kdbench's look; matplotlib's settings are put back."""
    import matplotlib

    with matplotlib.rc_context(_RC):
        yield


def panels(
    rows: int,
    columns: int,
    width: float,
    height: float,
    *,
    sharex: bool = False,
    sharey: bool | Literal["row"] = False,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of rows x columns axes, sizes in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey)
    return figure, [list(row) for row in axes]


def looks(schemes: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each scheme: undistilled blue, teachers grey, the others in their order."""
    rest = iter(zip(COLOURS[1:] * len(schemes), MARKERS[1:] * len(schemes), strict=False))
    found = {}
    for scheme in schemes:
        if scheme == UNDISTILLED:
            found[scheme] = (COLOURS[0], MARKERS[0])
        elif scheme == TEACHER:
            found[scheme] = (GREY, "X")
        else:
            found[scheme] = next(rest)
    return found


def arrange(figure: Figure) -> None:
    """Lay the figure out once, for all the files that are made of it."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def inlined(text: str, name: str, label: str, *, ours: bool = True) -> str:
    """An `svg` for a page, ids made unique by `name`.

    `ours`: drawn in this look; it becomes transparent, with ink and grid in the page's own colours. Others
    keep their colours and their white ground, which they were drawn for.
    """
    text = text[text.index("<svg") :]
    if ours:
        text = text.replace(f"fill: {_WHITE}", "fill: none", 1)
        text = text.replace(INK, "var(--ink)").replace(GRID, "var(--grid)")
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
