"""The figures of LW from records: accuracy, superclass correlation, class area, embeddings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdbench.report.select import TEACHER, Missing, Place, Selection, same_length
from kdbench.report.style import COLOURS, INK, MARKERS, Drawing, looks, panels

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

Made = list[Drawing | Missing]
QUOTED = "quoted from the paper"
#: More schemes than a legend holds.
MANY = 10


def accuracy(data: Selection) -> Made:
    """LW Fig. 4: test accuracy against the number of labels."""
    title = "Accuracy by number of labels"
    found = data.values(data.label("accuracy"), "accuracy")
    if not found:
        return [Missing(title, "no record has a value accuracy.accuracy")]
    schemes = data.order(p.scheme for p in found)
    budgets = sorted({p.budget for p in found})
    if len(budgets) == 1 and len(schemes) > MANY:
        return [_ranked_accuracy(found)]
    look = looks(schemes)
    figure, [[ax]] = panels(1, 1, 6.8, 3.9)
    quoted = False
    for i, scheme in enumerate(schemes):
        colour, marker = look[scheme]
        places = sorted((p for p in found if p.scheme == scheme), key=lambda p: p.budget)
        # A few percent aside, so that error bars do not cover each other.
        x = np.array([p.budget for p in places]) * 1.03 ** (i - (len(schemes) - 1) / 2)
        mean = [100 * np.mean(found[p]) for p in places]
        sd = np.array([100 * np.std(found[p], ddof=1) if len(found[p]) > 1 else 0.0 for p in places])
        line = "--" if scheme == TEACHER else "-"
        ax.errorbar(
            x, mean, sd, color=colour, marker=marker, ls=line, ms=6, capsize=2.5, elinewidth=1, label=scheme
        )
        for at, place in zip(x, places, strict=True):
            paper = data.published("accuracy", "accuracy", place.budget, scheme)
            if paper is not None:
                quoted = True
                ax.plot(
                    at, 100 * paper.value, marker=marker, ms=8, mfc="none", mec=colour, mew=1.1, ls="none"
                )
    if quoted:
        ax.plot([], [], marker="o", ms=8, mfc="none", mec=INK, mew=1.1, ls="none", label=QUOTED)
    _budget_axis(ax, budgets)
    ax.set(ylabel="test accuracy (%)", ylim=(0, None))
    handles = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    order = [*schemes, QUOTED] if quoted else schemes
    figure.legend([handles[name] for name in order], order, loc="outside upper right", ncols=5)
    caption = f"Mean over folds ({_folds(found)}); bars are one standard deviation."
    if quoted:
        caption += " Open markers are the paper's own numbers, on its data and training."
    return [Drawing("accuracy", f"{title} (LW Fig. 4)", caption, figure)]


def _ranked_accuracy(found: Mapping[Place, Sequence[float]]) -> Drawing:
    """Many schemes at one number of labels: a line each, the best on top."""
    places = sorted(found, key=lambda p: float(np.mean(found[p])))
    look = looks([TEACHER])
    figure, [[ax]] = panels(1, 1, 6.8, 0.8 + 0.2 * len(places))
    for y, place in enumerate(places):
        values = 100 * np.asarray(found[place])
        sd = np.std(values, ddof=1) if len(values) > 1 else 0.0
        colour, marker = look[TEACHER] if place.scheme == TEACHER else (COLOURS[0], MARKERS[0])
        ax.errorbar(
            values.mean(), y, xerr=sd, color=colour, marker=marker, ms=5, capsize=2, elinewidth=1, ls="none"
        )
    ax.set_yticks(range(len(places)), [p.scheme for p in places])
    ax.set(xlabel="test accuracy (%)", xlim=(0, None), ylim=(-0.7, len(places) - 0.3))
    ax.grid(visible=True, axis="both")
    caption = (
        f"Mean over folds ({_folds(found)}) at {places[0].budget:,} labels; bars are one standard deviation."
    )
    return Drawing("accuracy", "Accuracy of all schemes", caption, figure)


def superclass_correlation(data: Selection, names: Sequence[str] = ()) -> Made:
    """LW Fig. 5: mean correlation of the outputs within each superclass."""
    from matplotlib.patches import Rectangle

    title = "Output correlation within superclasses"
    found = {p: a for p, a in data.arrays("superclass-correlation.r").items() if p.scheme != TEACHER}
    if not found:
        return [Missing(title, "no record has an array superclass-correlation.r")]
    schemes, budgets = data.order(p.scheme for p in found), sorted({p.budget for p in found})
    look = looks(schemes)
    n = same_length([a for arrays in found.values() for a in arrays]).shape[1]
    stored = data.arrays("superclass-correlation.names")
    if not names and stored:
        names = [str(name) for name in next(iter(stored.values()))[0]]
    labels = list(names) if len(names) == n else [f"superclass {i}" for i in range(n)]
    width = 0.8 / len(schemes)
    quoted = False
    figure, rows = panels(len(budgets), 1, 7.6, 1.2 + 1.75 * len(budgets), sharex=True, sharey=True)
    for [ax], budget in zip(rows, budgets, strict=True):
        for i, scheme in enumerate(schemes):
            arrays = found.get(Place(budget, scheme))
            if arrays is None:
                continue
            folds = same_length(arrays)
            mean = folds.mean(0)
            reach = np.stack([mean - folds.min(0), folds.max(0) - mean])
            x = np.arange(n) + (i - (len(schemes) - 1) / 2) * width
            ax.bar(x, mean, width * 0.92, color=look[scheme][0], label=scheme)
            if len(folds) > 1:
                ax.errorbar(x, mean, reach, fmt="none", ecolor=INK, elinewidth=0.7)
            for at, label in zip(x, labels, strict=True):
                paper = data.published("superclass-correlation", label, budget, scheme)
                if paper is not None:
                    quoted = True
                    ax.plot(at, paper.value, marker="D", ms=5, mfc="none", mec=INK, mew=1, ls="none")
        ax.axhline(0, color=INK, lw=0.7)
        ax.set_title(f"{budget:,} labels", loc="left")
        ax.set(ylabel="mean r", xlim=(-0.6, n - 0.4))
    rows[-1][0].set_xticks(range(n), labels, rotation=50, ha="right", rotation_mode="anchor", fontsize=8.5)
    if quoted:
        rows[0][0].plot([], [], marker="D", ms=5, mfc="none", mec=INK, mew=1, ls="none", label=QUOTED)
    handles = [Rectangle((0, 0), 1, 1, color=look[s][0]) for s in schemes]
    marks = [h for h, text in zip(*rows[0][0].get_legend_handles_labels(), strict=True) if text == QUOTED]
    entries = [*schemes, QUOTED][: len(schemes) + len(marks)]
    figure.legend([*handles, *marks], entries, loc="outside upper right", ncols=5)
    caption = (
        "Pearson correlation between the test-set outputs of classes in one superclass, mean over pairs and "
        f"folds; lines span the folds ({_folds(found)})."
    )
    if quoted:
        caption += " Diamonds are the paper's own numbers, on its data and training."
    return [Drawing("superclass-correlation", f"{title} (LW Fig. 5)", caption, figure)]


def class_area(data: Selection) -> Made:
    """LW Figs. 7 and 8: share of the embedding's area that a class takes, over classes, by tap and budget."""
    title = "Class area"
    found = {p: a for p, a in data.arrays("class-area.ratio").items() if p.scheme != TEACHER}
    if not found:
        return [Missing(title, "no record has an array class-area.ratio")]
    made: Made = []
    for reducer in sorted({p.reducer or "" for p in found}):
        here = {p: a for p, a in found.items() if (p.reducer or "") == reducer}
        schemes, taps = data.order(p.scheme for p in here), data.taps(p.tap for p in here)
        budgets = sorted({p.budget for p in here})
        columns = min(3, len(budgets))
        rows = -(-len(budgets) // columns)
        width = {1: 5.4, 2: 7.6}.get(columns, 9.4)
        figure, axes = panels(rows, columns, width, 0.6 + 2.7 * rows, sharey=True)
        flat = [ax for row in axes for ax in row]
        for ax in flat[len(budgets) :]:
            ax.set_visible(False)
        handles: dict[str, Artist] = {}
        for i, (ax, budget) in enumerate(zip(flat, budgets, strict=False)):
            handles |= _boxes(ax, here, budget, schemes, taps, reducer)
            ax.set_title(f"{budget:,} labels", loc="left")
            if i % columns == 0:
                ax.set_ylabel("class area / whole area")
            ax.set_ylim(0, None)
            ax.set_xlabel("layer")
        figure.legend([*handles.values()], [*handles], loc="outside upper right", ncols=5)
        caption = (
            f"Embeddings by {reducer}. Each box shows the classes, each by its mean over folds "
            f"({_folds(here)}): "
            "median, quartiles, whiskers to the outermost class within 1.5 interquartile ranges. Lower is "
            "tighter."
        )
        heading = f"{title} by layer, {reducer} (LW Figs. 7 and 8)"
        made.append(Drawing(f"class-area-{slug(reducer)}", heading, caption, figure))
    return made


def _boxes(
    ax: Axes,
    found: dict[Place, list[np.ndarray]],
    budget: int,
    schemes: list[str],
    taps: list[str],
    reducer: str,
) -> dict[str, Artist]:
    """Boxes of one budget; returns a handle a scheme for the legend."""
    look = looks(schemes)
    width = 0.76 / len(schemes)
    handles = {}
    for i, scheme in enumerate(schemes):
        colour = look[scheme][0]
        boxes, at = [], []
        for t, tap in enumerate(taps):
            arrays = found.get(Place(budget, scheme, tap, reducer or None))
            if arrays is None:
                continue
            folds = same_length(arrays)
            per_class = folds[:, np.isfinite(folds).all(0)].mean(0)
            if per_class.size:
                boxes.append(per_class)
                at.append(t + (i - (len(schemes) - 1) / 2) * width)
        if not boxes:
            continue
        drawn = ax.boxplot(
            boxes,
            positions=at,
            widths=width * 0.84,
            patch_artist=True,
            manage_ticks=False,
            flierprops={"marker": ".", "ms": 3, "mfc": colour, "mec": "none", "alpha": 0.7},
            medianprops={"color": INK, "lw": 1.2},
            boxprops={"facecolor": colour, "edgecolor": colour, "alpha": 0.75, "lw": 0.8},
            whiskerprops={"color": colour, "lw": 1},
            capprops={"color": colour, "lw": 1},
        )
        handles[scheme] = drawn["boxes"][0]
    ax.set_xticks(range(len(taps)), taps)
    ax.set_xlim(-0.6, len(taps) - 0.4)
    return handles


def embeddings(data: Selection, superclass_of: Sequence[int] | None = None) -> Made:
    """Scatter plots, taps x schemes, of the first fold at each budget and reducer."""
    title = "Embeddings"
    drawn = [
        r for r in data.records if r.scheme != TEACHER and any(a.endswith("/embedding") for a in r.arrays)
    ]
    first = [r for r in drawn if r.fold == min(x.fold for x in drawn)]
    here = Selection(tuple(first), data.suite, data.store_root)
    found = here.arrays("embedding")
    if not found:
        return [Missing(title, "no record has an array <tap>/<reducer>/embedding")]
    groups = {p: a[0] for p, a in (here.arrays("labels") | here.arrays("class-area.label")).items()}
    stored = [arrays[0] for arrays in here.arrays("class-area.superclass").values()]
    if superclass_of is None and stored:
        superclass_of = [int(s) for s in stored[0]]
    seconds = data.values("embedding-time", "seconds")
    made: Made = []
    for reducer in sorted({p.reducer or "" for p in found}):
        for budget in sorted({p.budget for p in found if (p.reducer or "") == reducer}):
            shown = {p: a[0] for p, a in found.items() if p.budget == budget and (p.reducer or "") == reducer}
            schemes, taps = data.order(p.scheme for p in shown), data.taps(p.tap for p in shown)
            figure, axes = panels(len(schemes), len(taps), 1.85 * len(taps) + 0.4, 1.95 * len(schemes) + 0.3)
            coloured = True
            for row, scheme in zip(axes, schemes, strict=True):
                for ax, tap in zip(row, taps, strict=True):
                    points = shown.get(Place(budget, scheme, tap, reducer or None))
                    labels = _labels(groups, budget, scheme, tap, reducer, superclass_of)
                    coloured &= _scatter(ax, points, labels)
                    if scheme == schemes[0]:
                        ax.set_title(tap)
                row[0].set_ylabel(scheme)
            caption = (
                f"The test images at each layer, {budget:,} labels, fold {first[0].fold + 1}, {reducer}."
            )
            if coloured:
                what = "class" if superclass_of is None else "superclass"
                caption += f" Colour and marker tell each {what}; axes have no unit."
            times = [s for p, v in seconds.items() if (p.budget, p.reducer) == (budget, reducer) for s in v]
            if times:
                caption += f" An embedding took {min(times):.3g} to {max(times):.3g} s."
            name = f"embedding-{slug(reducer)}-{budget}"
            made.append(Drawing(name, f"{title} by {reducer}, {budget:,} labels", caption, figure))
    return made


def _labels(
    groups: dict[Place, np.ndarray],
    budget: int,
    scheme: str,
    tap: str,
    reducer: str,
    superclass_of: Sequence[int] | None,
) -> np.ndarray | None:
    """Group of each point, from the nearest array "labels": the embedding's, the tap's or the cell's."""
    places = (Place(budget, scheme, tap, reducer or None), Place(budget, scheme, tap), Place(budget, scheme))
    labels = next((groups[p] for p in places if p in groups), None)
    if labels is None or superclass_of is None:
        return labels
    return np.asarray(superclass_of)[labels]


def _scatter(ax: Axes, points: np.ndarray | None, labels: np.ndarray | None) -> bool:
    """Draw one panel; whether it is coloured."""
    ax.grid(False)
    ax.set(xticks=[], yticks=[])
    for side in ("top", "right"):
        ax.spines[side].set_visible(True)
    if points is None:
        ax.text(0.5, 0.5, "no embedding", ha="center", va="center", transform=ax.transAxes)
        return True
    known = labels is not None and len(labels) == len(points)
    group = np.asarray(labels) if known else np.zeros(len(points), dtype=int)
    colour, marker = group % len(COLOURS), group // len(COLOURS) % len(MARKERS)
    for m in np.unique(marker):
        own = marker == m
        colours = [COLOURS[i] for i in colour[own]]
        style: dict[str, Any] = {"s": 4, "linewidths": 0, "alpha": 0.8, "rasterized": True}
        ax.scatter(points[own, 0], points[own, 1], c=colours, marker=MARKERS[m], **style)
    return known


def _budget_axis(ax: Axes, budgets: Sequence[int]) -> None:
    ax.set_xscale("log")
    ax.set_xticks(budgets, [f"{b:,}" for b in budgets])
    ax.set_xticks([], minor=True)
    ax.set_xlim(budgets[0] / 1.25, budgets[-1] * 1.25)
    ax.set_xlabel("labelled images")


def _folds(found: Mapping[Any, Sequence]) -> str:
    counts = sorted({len(values) for values in found.values()})
    text = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"n = {text}"


def slug(text: str) -> str:
    """Letters, digits and single dashes: for file names and ids."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "all"
