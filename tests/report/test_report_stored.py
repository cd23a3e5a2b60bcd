"""What metrics drew, and the times of embeddings, in a report."""

from __future__ import annotations

from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from report_synthetic import record, suite

from kdbench.api import Result
from kdbench.report import write_report
from kdbench.report.metric_figures import galleries
from kdbench.report.selection import Missing, Selection
from kdbench.report.tables import embedding_time
from kdbench.store import Draft
from kdbench.suite.schema import Component, Published


@pytest.fixture
def drawing(tmp_path):
    """Draws a named figure into the store; returns its path there."""

    def draw(name, title):
        figure = Figure(figsize=(1, 1))
        figure.subplots().set_title(title)
        Draft(tmp_path).figure(name, figure)
        return f"{name}.svg"

    return draw


def shown(root, *cells, **changes):
    return galleries(Selection.of(cells, suite(**changes), root))


def test_labels_with_slashes_and_dots_are_read(tmp_path, drawing):
    path = drawing("a", "x")
    keys = ["curve[x=0.5].net", "C/curve[x=0.5].tap", "C/timm/odd.name/curve[x=0.5].embedded"]
    cell = replace(record(400, 0, "kl"), figures=dict.fromkeys(keys, path))
    metric = Component(name="curve", params={"x": 0.5})
    [gallery] = shown(tmp_path, cell, metrics=(metric,))
    assert gallery.title == "curve[x=0.5]"
    assert [d.caption for d in gallery.drawings] == [
        "net · kl, 400 labels.",
        "tap · kl, 400 labels · layer C.",
        "embedded · kl, 400 labels · layer C · timm/odd.name.",
    ]
    assert len({d.name for d in gallery.drawings}) == 3


def test_each_network_is_shown_once_by_its_first_fold(tmp_path, drawing):
    paths = {(s, f): drawing(f"{s}{f}", "") for s in ("kl", "undistilled") for f in (0, 1, 2)}
    cells = [
        replace(record(400, f, s), figures={"m.x": p}) for (s, f), p in paths.items() if (s, f) != ("kl", 0)
    ]
    [gallery] = shown(tmp_path, *cells)
    assert [d.caption for d in gallery.drawings] == [
        "x · undistilled, 400 labels · fold 1 of 3.",
        "x · kl, 400 labels · fold 2 of 3.",
    ]
    assert gallery.drawings[1].svg == (tmp_path / paths["kl", 1]).read_text()


def test_taps_and_metrics_stand_in_the_suites_order(tmp_path, drawing):
    path = drawing("a", "")
    keys = ["z.x", "first.x", "second.x", "B/second.x", "A/second.x"]
    cell = replace(record(400, 0, "kl"), figures=dict.fromkeys(keys, path))
    made = shown(tmp_path, cell, taps=("B", "A"), metrics=(Component(name="second"), Component(name="first")))
    assert [g.title for g in made] == ["second", "first", "z"]
    assert ["B" in d.caption for d in made[0].drawings] == [False, True, False]


@pytest.mark.parametrize("damage", ["svg gone", "png gone", "no svg", "binary"])
def test_a_drawing_that_can_not_be_read_is_named_and_the_others_shown(tmp_path, drawing, damage):
    figures = {"good.x": drawing("good", ""), "bad.x": drawing("bad", "")}
    if damage.endswith("gone"):
        (tmp_path / "bad").with_suffix("." + damage[:3]).unlink()
    else:
        (tmp_path / "bad.svg").write_bytes(b"text" if damage == "no svg" else b"\xff\xfe\x00")
    missing, gallery = shown(tmp_path, replace(record(400, 0, "kl"), figures=figures))
    assert isinstance(missing, Missing)
    assert (missing.title, gallery.title) == ("bad", "good")
    assert "bad.svg" in missing.reason


def test_a_metrics_own_colours_and_ground_stay_on_the_page(tmp_path, drawing):
    cell = replace(record(400, 0, "kl"), figures={"m.x": drawing("a", "<escaped & shown>")})
    page, *files = write_report([cell], suite=suite(), out=tmp_path / "out", store_root=tmp_path)
    section = page.read_text().split("<h2>m</h2>")[1].split("</figure>")[0]
    assert "fill: #ffffff" in section
    assert "&lt;escaped &amp; shown&gt;" in section
    assert "var(--" not in section
    stored = {p.name: p.read_bytes() for p in files if p.name.startswith("metric-")}
    assert stored == {
        "metric-m-x-kl-400.svg": (tmp_path / "a.svg").read_bytes(),
        "metric-m-x-kl-400.png": (tmp_path / "a.png").read_bytes(),
    }


def test_times_stand_beside_the_quoted_ones_by_reducer(tmp_path):
    def cell(fold, **seconds):
        results = [Result("embedding-time", "seconds", s, "A", r, "n=500") for r, s in seconds.items()]
        return replace(record(400, fold, "kl"), results=tuple(results))

    quoted = [
        Published(where="3.2", reducer=r, metric="embedding-time", value_name="seconds", value=v)
        for r, v in (("tsne", 3700), ("ivis", 600))
    ]
    reducers = (Component(name="tsne", label="t-SNE"), Component(name="ivis-torch"))
    cells = [cell(0, **{"t-SNE": 10.0, "ivis-torch": 2.5}), cell(1, **{"t-SNE": 14.0})]
    [table] = embedding_time(Selection.of(cells, suite(published=tuple(quoted), reducers=reducers), tmp_path))
    tsne, ivis = table.body
    assert [tsne[0].text, tsne[1].text, tsne[1].range, tsne[1].quoted] == [
        "t-SNE, n=500",
        "12",
        "10–14",
        "3700",
    ]
    # the published number is another implementation's
    assert [ivis[0].text, ivis[1].text, ivis[1].quoted] == ["ivis-torch, n=500", "2.5", ""]
    assert embedding_time(Selection.of([record(400, 0, "kl")], suite(), tmp_path)) == []
