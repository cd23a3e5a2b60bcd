"""Figures from records: accuracy, superclass correlation, class area, embeddings, as in LW; any metric by layer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kdbench.report.classes import Classes
from kdbench.report.selection import TEACHER, Missing, Place, Selection, same_length
from kdbench.report.style import (
    CLASS_COLOURS,
    CLASS_MARKERS,
    COLOURS,
    INK,
    MARKERS,
    Drawing,
    looks,
    panels,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

Made = Sequence[Drawing | Missing]
QUOTED = "quoted from the paper"
#: More schemes than a legend holds.
MANY = 10
#: As many classes as a legend names.
FEW_CLASSES = 20


def accuracy(data: Selection) -> Made:
    """LW Fig. 4: test accuracy against the number of labels."""
    title = "Accuracy by number of labels"
    found = data.values(data.label("accuracy"), "accuracy")
    if not found:
        return data.absent(title, "accuracy", "no record has a value accuracy.accuracy")
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
    return [Drawing("accuracy", data.titled(title, "LW Fig. 4"), caption, figure)]


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
    metric = data.label("superclass-correlation")
    found = {p: a for p, a in data.arrays(f"{metric}.r").items() if p.scheme != TEACHER}
    if not found:
        return data.absent(title, "superclass-correlation", f"no record has an array {metric}.r")
    schemes, budgets = data.order(p.scheme for p in found), sorted({p.budget for p in found})
    look = looks(schemes)
    n = same_length([a for arrays in found.values() for a in arrays]).shape[1]
    stored = data.arrays(f"{metric}.names")
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
    return [Drawing("superclass-correlation", data.titled(title, "LW Fig. 5"), caption, figure)]


def class_area(data: Selection) -> Made:
    """LW Figs. 7 and 8: share of the embedding's area that a class takes, over classes, by tap and budget."""
    title = "Class area"
    metric = data.label("class-area")
    found = {p: a for p, a in data.arrays(f"{metric}.ratio").items() if p.scheme != TEACHER}
    if not found:
        return data.absent(title, "class-area", f"no record has an array {metric}.ratio")
    made: list[Drawing | Missing] = []
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
        heading = data.titled(f"{title} by layer, {reducer}", "LW Figs. 7 and 8")
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


def embeddings(data: Selection, known: Classes) -> Made:
    """Scatter plots, taps x schemes, of the first fold at each budget and reducer; in the colours of superclasses
    where there are any, else of classes."""
    title = "Embeddings"
    drawn = [
        r for r in data.records if r.scheme != TEACHER and any(a.endswith("/embedding") for a in r.arrays)
    ]
    first = [r for r in drawn if r.fold == min(x.fold for x in drawn)]
    here = Selection(tuple(first), data.suite, data.store_root)
    found = here.arrays("embedding")
    if not found:
        reason = "no record has an array <tap>/<reducer>/embedding"
        return [Missing(title, reason)] if data.suite.reducers else []
    area = data.label("class-area")
    groups = {p: a[0] for p, a in (here.arrays("labels") | here.arrays(f"{area}.label")).items()}
    stored = [arrays[0] for arrays in here.arrays(f"{area}.superclass").values()]
    if known.superclass_of is None and stored:
        known = replace(known, superclass_of=tuple(int(s) for s in stored[0]))
    seconds = data.values("embedding-time", "seconds")
    made: list[Drawing | Missing] = []
    for reducer in sorted({p.reducer or "" for p in found}):
        for budget in sorted({p.budget for p in found if (p.reducer or "") == reducer}):
            shown = {p: a[0] for p, a in found.items() if p.budget == budget and (p.reducer or "") == reducer}
            schemes, taps = data.order(p.scheme for p in shown), data.taps(p.tap for p in shown)
            labels = {p: _labels(groups, p, known) for p in shown}
            coloured = all(g is not None and len(g) == len(shown[p]) for p, g in labels.items())
            entries = _class_legend(labels.values(), known) if coloured else {}
            width = max(1.85 * len(taps) + 0.4, 4.2 if entries else 0)
            columns = max(1, int(width / (0.32 + 0.07 * max(map(len, entries), default=0))))
            height = 1.95 * len(schemes) + 0.3 + 0.19 * -(-len(entries) // columns)
            figure, axes = panels(len(schemes), len(taps), width, height)
            for row, scheme in zip(axes, schemes, strict=True):
                for ax, tap in zip(row, taps, strict=True):
                    place = Place(budget, scheme, tap, reducer or None)
                    _scatter(ax, shown.get(place), labels.get(place))
                    if scheme == schemes[0]:
                        ax.set_title(tap)
                row[0].set_ylabel(scheme)
            if entries:
                figure.legend(
                    [*entries.values()], [*entries], loc="outside lower left", ncols=columns,
                    handletextpad=0.1, columnspacing=0.9, labelspacing=0.25, fontsize=8.5,
                )  # fmt: skip
            caption = (
                f"The test images at each layer, {budget:,} labels, fold {first[0].fold + 1}, {reducer}."
            )
            if coloured:
                what = "class" if known.superclass_of is None else "superclass"
                caption += f" Colour and marker tell each {what}; axes have no unit."
            else:
                caption += " In one colour where the points' classes are not on record."
            times = [s for p, v in seconds.items() if (p.budget, p.reducer) == (budget, reducer) for s in v]
            if times:
                caption += f" An embedding took {min(times):.3g} to {max(times):.3g} s."
            name = f"embedding-{slug(reducer)}-{budget}"
            made.append(Drawing(name, f"{title} by {reducer}, {budget:,} labels", caption, figure))
    return made


def _labels(groups: dict[Place, np.ndarray], place: Place, known: Classes) -> np.ndarray | None:
    """Group of each point: from the nearest array "labels", the embedding's, the tap's or the cell's, else from the
    dataset."""
    bare = replace(place, reducer=None)
    labels = next((groups[p] for p in (place, bare, replace(bare, tap=None)) if p in groups), known.labels)
    if labels is None or known.superclass_of is None:
        return labels
    return np.asarray(known.superclass_of)[labels]


def _look(group: int) -> tuple[str, str]:
    """Colour and marker of a class or superclass: no two alike below a hundred."""
    return (
        CLASS_COLOURS[group % len(CLASS_COLOURS)],
        CLASS_MARKERS[group // len(CLASS_COLOURS) % len(CLASS_MARKERS)],
    )


def _class_legend(labels: Iterable[np.ndarray | None], known: Classes) -> dict[str, Artist]:
    """A mark by name of each class or superclass that is drawn; {} of more than can be told apart."""
    from matplotlib.lines import Line2D

    groups = sorted({int(g) for each in labels if each is not None for g in np.unique(each)})
    if len(groups) > FEW_CLASSES:
        return {}
    marks: dict[str, Artist] = {}
    for group in groups:
        colour, marker = _look(group)
        marks[known.name(group)] = Line2D([], [], ls="none", marker=marker, ms=5, mew=0, color=colour)
    return marks


def _scatter(ax: Axes, points: np.ndarray | None, labels: np.ndarray | None) -> None:
    """Draw one panel, in one colour where the points' groups are not known."""
    ax.grid(False)
    ax.set(xticks=[], yticks=[])
    for side in ("top", "right"):
        ax.spines[side].set_visible(True)
    if points is None:
        ax.text(0.5, 0.5, "no embedding", ha="center", va="center", transform=ax.transAxes)
        return
    known = labels is not None and len(labels) == len(points)
    groups = np.asarray(labels) if known else np.zeros(len(points), dtype=int)
    looks_of = [_look(int(g)) for g in groups]
    markers = np.array([marker for _, marker in looks_of])
    size = float(np.clip(2400 / max(len(points), 1), 4, 10))  # few points are to be seen, too
    style: dict[str, Any] = {"linewidths": 0, "alpha": 0.85, "rasterized": True}
    for marker in dict.fromkeys(markers.tolist()):
        own = markers == marker
        colours = [colour for colour, m in looks_of if m == marker]
        ax.scatter(
            points[own, 0],
            points[own, 1],
            c=colours,
            marker=marker,
            s=size * (1 if marker == "o" else 1.6),
            **style,
        )


def by_layer(
    data: Selection,
    title: str,
    metric: str,
    value_name: str,
    found: Mapping[Place, list[float]],
    setting: str,
) -> Drawing:
    """A metric's primary value over the taps: a line a scheme, a column a budget, a row a reducer."""
    named = [c.title for c in data.suite.reducers]
    reducers = sorted(
        {p.reducer or "" for p in found},
        key=lambda r: (named.index(r) if r in named else len(named), r),
    )
    budgets = sorted({p.budget for p in found})
    taps, schemes = data.taps(p.tap for p in found), data.order(p.scheme for p in found)
    places = [(reducer, budget) for reducer in reducers for budget in budgets]
    columns = len(budgets) if len(reducers) > 1 else min(4, len(budgets))
    rows = -(-len(places) // columns)
    width = (
        0.7 + max(2.3 if columns < 5 else 1.8, 0.36 * len(taps)) * columns + (2.2 if columns == 1 else 0.6)
    )
    figure, axes = panels(rows, columns, width, 0.7 + 2.1 * rows, sharey="row" if len(reducers) > 1 else True)
    flat = [ax for row in axes for ax in row]
    for ax in flat[len(places) :]:
        ax.set_visible(False)
    look = looks(schemes)
    handles: dict[str, Any] = {}
    quoted = False
    for i, (ax, (reducer, budget)) in enumerate(zip(flat, places, strict=False)):
        for s, scheme in enumerate(schemes):
            colour, marker = look[scheme]
            own = [(t, Place(budget, scheme, tap, reducer or None)) for t, tap in enumerate(taps)]
            own = [(t, place) for t, place in own if place in found]
            if not own:
                continue
            # A little aside, so that error bars do not cover each other.
            x = [t + 0.06 * (s - (len(schemes) - 1) / 2) for t, _ in own]
            values = [found[place] for _, place in own]
            sd = [float(np.std(v, ddof=1)) if len(v) > 1 else 0.0 for v in values]
            handles[scheme] = ax.errorbar(
                x, [float(np.mean(v)) for v in values], sd, color=colour, marker=marker, ms=5, capsize=2,
                elinewidth=1, ls="--" if scheme == TEACHER else "-",
            )  # fmt: skip
            for at, (_, place) in zip(x, own, strict=True):
                paper = data.published(metric, value_name, budget, scheme, place.tap, place.reducer)
                if paper is not None:
                    quoted = True
                    ax.plot(at, paper.value, marker=marker, ms=8, mfc="none", mec=colour, mew=1.1, ls="none")
        ax.set_xticks(range(len(taps)), taps, rotation=40 if max(map(len, taps)) > 4 else 0)
        ax.set_xlim(-0.4, len(taps) - 0.6)
        if i < len(budgets):
            ax.set_title(f"{budget:,} labels", loc="left")
        if i % columns == 0:
            ax.set_ylabel(f"{reducer}\n{value_name}" if reducer else value_name)
        if i + columns >= len(places):
            ax.set_xlabel("layer")
    order = [scheme for scheme in schemes if scheme in handles]
    marks = [handles[scheme] for scheme in order]
    if quoted:
        from matplotlib.lines import Line2D

        order.append(QUOTED)
        marks.append(Line2D([], [], marker="o", ms=8, mfc="none", mec=INK, mew=1.1, ls="none"))
    figure.legend(marks, order, loc="outside upper left", ncols=max(1, int(width / 1.6)))
    caption = f"Mean over folds ({_folds(found)}); bars are one standard deviation."
    caption += f" {setting}." if setting else ""
    if quoted:
        caption += " Open markers are the paper's own numbers, on its data and training."
    name = slug(f"{metric} {setting}" if setting else metric)
    return Drawing(f"layers-{name}", title, caption, figure)


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
