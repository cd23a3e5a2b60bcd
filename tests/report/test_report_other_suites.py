"""Reports of suites that are of no paper: classes for colours, plain titles, every metric's primary value."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from report_synthetic import record, suite, verdict

from kdbench.api import ImageData, Result
from kdbench.api.data import Split
from kdbench.api.draws import draw_test
from kdbench.errors import DataError
from kdbench.report import write_report
from kdbench.report.classes import known_classes
from kdbench.report.figures import embeddings
from kdbench.report.metrics import primary_values
from kdbench.report.selection import Missing, Selection
from kdbench.report.style import Drawing
from kdbench.suite.schema import Component, Data

TAPS = ("A", "B", "C")


def plain(metrics=("accuracy",), **changes):
    """A suite of nobody's paper."""
    named = tuple(Component(name=m) for m in metrics)
    fields = {"name": "mine", "title": "Mine", "reference": "", "published": (), "assumptions": {}}
    fields |= {"taps": TAPS, "reducers": (), "data": Data(dataset="dots", budgets=(400,), embedded=200)}
    return suite(**fields | {"metrics": named} | changes)


def dots(n_classes=10, superclasses=0) -> ImageData:
    labels = np.arange(400) * 7 % n_classes
    split = Split(np.zeros((400, 4, 4, 1), np.uint8), labels)
    return ImageData(
        split,
        split,
        tuple(f"digit {c}" for c in range(n_classes)),
        np.arange(n_classes) % superclasses if superclasses else None,
        tuple(f"kind {c}" for c in range(superclasses)),
        "0" * 64,
    )


def embedded(root, n=200, scheme="kl"):
    """A cell with two embeddings, and nothing that tells the classes of their points."""
    rng = np.random.default_rng(0)
    np.save(root / "points.npy", rng.standard_normal((n, 2)))
    arrays = {f"{tap}/pca/embedding": "points.npy" for tap in ("A", "B")}
    return replace(record(400, 0, scheme), arrays=arrays)


def drawn(root, data, cell=None, **changes):
    cells, own = (cell or embedded(root),), plain(**changes)
    known = known_classes(cells, own, (lambda: data) if data else None, None, ())
    [drawing] = embeddings(Selection.of(cells, own, root), known)
    return drawing


def colours_by_panel(drawing):
    """Colour and number of corners of the marker of every point, by panel, in the order of points."""
    found = []
    for ax in drawing.figure.axes:
        points = {}
        for c in ax.collections:
            corners = c.get_paths()[0].vertices.round(3).tobytes()
            for at, colour in zip(c.get_offsets().tolist(), c.get_facecolors().tolist(), strict=True):
                points[tuple(at)] = (tuple(colour), corners)
        found.append(points)
    return found


@pytest.mark.parametrize("n_classes", [10, 20, 100])
def test_points_have_the_look_of_their_class_where_there_are_no_superclasses(tmp_path, n_classes):
    data = dots(n_classes)
    drawing = drawn(tmp_path, data)
    points = np.load(tmp_path / "points.npy")
    labels = data.test.labels[draw_test(data.test.labels, n_classes, size=200, seed=0)]
    for panel in colours_by_panel(drawing):
        looks = {}
        for point, label in zip(points.tolist(), labels.tolist(), strict=True):
            looks.setdefault(label, set()).add(panel[tuple(point)])
        assert all(len(own) == 1 for own in looks.values())
        assert len(set().union(*looks.values())) == n_classes
    assert "tell each class;" in drawing.caption
    named = [t.get_text() for legend in drawing.figure.legends for t in legend.get_texts()]
    assert named == ([f"digit {c}" for c in range(n_classes)] if n_classes <= 20 else [])


def test_superclasses_are_told_apart_by_the_dataset_alone(tmp_path):
    drawing = drawn(tmp_path, dots(100, superclasses=5))
    assert all(len(set(panel.values())) == 5 for panel in colours_by_panel(drawing))
    assert "tell each superclass;" in drawing.caption
    [legend] = drawing.figure.legends
    assert [t.get_text() for t in legend.get_texts()] == [f"kind {c}" for c in range(5)]


@pytest.mark.parametrize("reason", ["none", "another", "other images", "gone"])
def test_points_of_unknown_classes_have_one_colour_and_no_legend(tmp_path, reason):
    def gone():
        raise DataError("there are no files")

    cells = (embedded(tmp_path, n=199 if reason == "other images" else 200),)
    other = replace(dots(), digest="1" * 64)
    dataset = {"none": None, "another": lambda: other, "other images": dots, "gone": gone}[reason]
    known = known_classes(cells, plain(), dataset, None, ())
    [drawing] = embeddings(Selection.of(cells, plain(), tmp_path), known)
    assert all(len(set(panel.values())) == 1 for panel in colours_by_panel(drawing))
    assert drawing.figure.legends == []
    assert "Colour and marker" not in drawing.caption


def test_the_dataset_is_loaded_only_to_draw(tmp_path):
    asked = []

    def dataset():
        asked.append(1)
        return dots()

    for again in (True, False):
        kwargs = {"suite": plain(), "out": tmp_path / "out", "store_root": tmp_path, "again": again}
        page = write_report([embedded(tmp_path)], dataset=dataset, **kwargs)[0].read_text()
        assert "Colour and marker tell each class;" in page
    assert len(asked) == 1


def measured(value_of, *, metric="cka", value_name="cka", taps=TAPS, schemes=("undistilled", "kl"), **result):
    """Cells of two folds; `value_of`: (scheme, tap, fold) to a value."""
    return [
        replace(
            record(400, fold, "kl"),
            scheme=scheme,
            key=f"{scheme}{fold}",
            arrays={},
            results=tuple(
                Result(metric, value_name, value_of(scheme, tap, fold), tap, primary=True, **result)
                for tap in taps
            ),
        )
        for scheme in schemes
        for fold in (0, 1)
    ]


def test_a_suite_of_no_paper_has_plain_titles_and_misses_nothing_it_did_not_ask_for(tmp_path):
    cells = [record(400, f, s) for f in (0, 1) for s in ("undistilled", "kl")]
    cells = [replace(c, results=c.results[:1], arrays={}) for c in cells]
    text = write_report(cells, suite=plain(), out=tmp_path / "a", store_root=tmp_path)[0].read_text()
    assert "<h2>Test accuracy</h2>" in text
    assert "<h2>Accuracy by number of labels</h2>" in text
    assert not re.search(r"\bLW\b|the paper|quoted from|Not drawn", text)
    asked = plain(metrics=("accuracy", "class-area", "silhouette"))
    text = write_report(cells, suite=asked, out=tmp_path / "b", store_root=tmp_path)[0].read_text()
    missing = text.split("Not drawn")[1].split("</ul>")[0]
    assert re.findall(r"<li>([^:]*)", missing) == ["Class area", "silhouette"]


def test_the_papers_suite_keeps_its_titles_and_quotes_where_there_is_a_number(tmp_path):
    cells = [record(400, 0, s) for s in ("undistilled", "kl")]
    text = write_report(cells, suite=suite(), out=tmp_path / "a", store_root=tmp_path)[0].read_text()
    for title in ("Test accuracy (LW Table 1)", "labels (LW Fig. 4)", "Converged ivis loss (LW Table 2)"):
        assert f"{title}</h2>" in text
    assert "Numbers in italics are quoted" in text
    elsewhere = suite(published_dataset="another")
    text = write_report(cells, suite=elsewhere, out=tmp_path / "b", store_root=tmp_path)[0].read_text()
    assert "Test accuracy (LW Table 1)" in text
    assert "Numbers in italics are quoted" not in text


def test_a_metric_of_layers_is_a_line_a_scheme_over_the_taps(tmp_path):
    cells = measured(lambda s, tap, fold: len(s) + TAPS.index(tap) + 0.5 * fold, setting="n=9")
    own = plain(metrics=("accuracy", "cka"))
    [drawing] = primary_values(Selection.of(cells, own, tmp_path), {"accuracy"})
    assert isinstance(drawing, Drawing)
    assert drawing.title == "cka"
    assert "n=9" in drawing.caption
    [ax] = drawing.figure.axes
    lines = [line.get_ydata().tolist() for line in ax.lines if len(line.get_ydata()) == len(TAPS)]
    for base in (len("undistilled"), len("kl")):
        assert [base + t + 0.25 for t in range(3)] in lines
    [legend] = drawing.figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["undistilled", "kl"]
    assert [t.get_text() for t in ax.get_xticklabels()] == list(TAPS)


def test_reducers_have_a_row_each_and_budgets_a_column(tmp_path):
    cells = []
    for reducer in ("pca", "t-SNE"):
        for budget in (400, 2500):
            made = measured(
                lambda s, t, f: 1.0, metric="silhouette", value_name="silhouette", reducer=reducer
            )
            cells += [replace(c, budget=budget) for c in made]
    own = plain(("silhouette",), reducers=(Component(name="tsne", label="t-SNE"), Component(name="pca")))
    [drawing] = primary_values(Selection.of(cells, own, tmp_path), set())
    axes = drawing.figure.axes
    assert [ax.get_ylabel().split("\n")[0] for ax in axes] == ["t-SNE", "", "pca", ""]
    assert [ax.get_title(loc="left") for ax in axes] == ["400 labels", "2,500 labels", "", ""]


def test_metrics_of_networks_of_one_layer_and_of_many_schemes_are_tables(tmp_path):
    def tables(own, cells):
        return primary_values(Selection.of(cells, own, tmp_path), set())

    network = measured(lambda s, t, f: 0.25 + f, metric="ece", value_name="error", taps=(None,))
    [table] = tables(plain(("ece",)), network)
    assert table.title == "ece: error"
    assert "0.750 ± 0.707" in [cell.text for cell in table.body[0]]
    [table] = tables(plain(("cka",)), measured(lambda s, t, f: 0.5, taps=("B",)))
    assert "B" in table.head
    many = [f"scheme {i}" for i in range(11)]
    [table] = tables(plain(("cka",)), measured(lambda s, t, f: 0.5, schemes=many))
    assert {cell.text for row in table.body for cell in row} >= set(many)
    assert table.head[-len(TAPS) :] == list(TAPS)


def test_values_of_different_settings_share_no_figure(tmp_path):
    few, more = (measured(lambda s, t, f, n=n: float(n), setting=f"n={n}") for n in (200, 900))
    made = primary_values(Selection.of([*few, *more], plain(("cka",)), tmp_path), set())
    assert [re.findall(r"n=\d+", d.caption) for d in made] == [["n=200"], ["n=900"]]
    assert len({d.name for d in made}) == 2


def test_a_metric_without_any_value_is_named(tmp_path):
    [missing] = primary_values(Selection.of([record(400, 0, "kl")], plain(("cka",)), tmp_path), set())
    assert missing == Missing("cka", "no record has a value of it")


def test_a_claim_names_its_comparison_and_what_is_missing(tmp_path):
    claim = verdict(
        verdict="undecided",
        effect=0.1,
        n=2,
        decisive="a against b",
        wanted=3,
        missing=("2500 labels", "10000 labels"),
    )
    kwargs = {"suite": plain(), "out": tmp_path, "store_root": tmp_path, "claims": [claim]}
    text = write_report([record(400, 0, "kl")], **kwargs)[0].read_text()
    assert "a against b; 1 of 3 measured; missing: 2500 labels, 10000 labels" in text
