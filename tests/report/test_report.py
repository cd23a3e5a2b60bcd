"""The report: what it shows of made-up records, what it leaves out with a reason, and what it is made of."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from report_synthetic import CLAIMS, SUPERCLASS_NAMES, SUPERCLASS_OF, record, records, row, suite

from kdbench.errors import WorkspaceError
from kdbench.report import write_report


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    return root, records(root, embed=True)


@pytest.fixture(scope="module")
def full(store, tmp_path_factory):
    root, cells = store
    error = "Traceback (most recent call last):\n  ...\nValueError: loss is <NaN>"
    cells = [*cells, record(2500, 4, "kl", status="failed", error=error)]
    rows = [row(dataset="cifar100", budget=400, metric="accuracy.accuracy")]
    out = tmp_path_factory.mktemp("report")
    before = dict(matplotlib.rcParams)
    paths = write_report(
        cells,
        suite=suite(),
        out=out,
        store_root=root,
        rows=rows,
        claims=CLAIMS,
        superclass_of=SUPERCLASS_OF,
        superclass_names=SUPERCLASS_NAMES,
    )
    assert dict(matplotlib.rcParams) == before
    return paths, paths[0].read_text()


class Reader(HTMLParser):
    """Headings, tables as rows of texts, ids, links to elsewhere."""

    VOID = ("meta", "br", "img", "link")

    def __init__(self, text):
        super().__init__()
        self.headings, self.tables, self.ids, self.foreign, self.stack = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name) or ""
            if value and not value.startswith(("#", "data:")):
                self.foreign.append(value)
        if tag not in self.VOID:
            self.stack.append(tag)
        if tag == "h2":
            self.headings.append("")
        elif tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "br" and "table" in self.stack:
            self.tables[-1][-1][-1] += " | "

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if "h2" in self.stack:
            self.headings[-1] += data
        elif self.stack and {"td", "th"} & set(self.stack):
            self.tables[-1][-1][-1] += data

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.stack.pop()


def test_every_file_is_named_and_there(full):
    paths, _ = full
    assert paths[0].name == "report.html"
    names = {p.name for p in paths[1:]}
    stems = {
        "accuracy",
        "superclass-correlation",
        "class-area-ivis-torch",
        "embedding-ivis-torch-400",
        "embedding-ivis-torch-2500",
    }
    assert names == {s + e for s in stems for e in (".png", ".svg")}
    for path in paths[1:]:
        if path.suffix == ".svg":
            ElementTree.parse(path)
        else:
            assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_page_is_whole_and_needs_nothing_else(full):
    page = Reader(full[1])
    assert page.stack == []
    assert page.foreign == []
    assert len(page.ids) == len(set(page.ids))
    referred = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', full[1]))
    assert referred <= set(page.ids)
    assert "<script" not in full[1]
    assert "prefers-color-scheme: dark" in full[1]


def test_figures_on_the_page_take_its_colours(full):
    figures = re.findall(r"<svg.*?</svg>", full[1], flags=re.DOTALL)
    assert len(figures) == 5
    for figure in figures:
        assert "var(--ink)" in figure
        assert "#ffffff" not in figure
        assert "#1b1c1e" not in figure
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", figures[1])
    assert {"people", "aquatic mammals", "undistilled", "kl"} <= set(texts)
    assert "quoted from the paper" in figures[0]


def test_table_1_has_ours_with_the_spread_and_the_papers_marked_as_quoted(full, store):
    table = next(t for t in Reader(full[1]).tables if t[0][0] == "scheme")
    assert [row[0] for row in table] == ["scheme", "undistilled", "kl", "teacher"]
    cells = [c for c in store[1] if (c.budget, c.scheme) == (400, "kl")]
    ours = [100 * r.value for c in cells for r in c.results if r.metric == "accuracy"]
    assert table[2][1] == f"{np.mean(ours):.2f} ± {np.std(ours, ddof=1):.2f} | 23.75 ± 0.80"
    assert "|" not in table[1][2]  # nothing was published for that one
    assert '<i class="quoted" title="LW Table 1; ± standard deviation over 5 folds">' in full[1]


def test_table_2_has_each_tap_with_its_range_and_says_the_setting(full, store):
    table = next(t for t in Reader(full[1]).tables if t[0][:2] == ["labels", "scheme"])
    assert table[0][2:] == ["A", "B", "C", "D", "E"]
    assert [row[:2] for row in table[1::2]] == [["400", "undistilled"], ["2,500", "undistilled"]]
    ours = [
        r.value
        for c in store[1]
        if (c.budget, c.scheme) == (400, "kl")
        for r in c.results
        if (r.metric, r.tap) == ("ivis-loss", "C")
    ]
    assert table[2][3] == f"{np.mean(ours):.3f} {min(ours):.3f}–{max(ours):.3f} | 0.309"
    assert "n=200, k=15" in full[1]


def test_claims_assumptions_failures_and_rows_are_shown_and_escaped(full):
    text = full[1]
    assert '<span class="verdict supported">supported</span>' in text
    assert "Distillation helps with &lt;few&gt; labels" in text
    assert "+12.00 [+10.00, +14.00] %" in text
    assert "<dt>LW-A10</dt><dd>95 % region of a &lt;kernel&gt; density</dd>" in text
    assert "1 cell failed" in text
    assert "2500 labels · fold 5 · kl: <code>ValueError: loss is &lt;NaN&gt;</code>" in text
    assert "made-up processor, float32" in text
    table = Reader(text).tables[-1]
    assert table == [
        ["dataset", "budget", "metric", "n", "mean"],
        ["cifar100", "400", "accuracy.accuracy", "5", "0.25"],
    ]


def test_claims_without_data_are_folded_away(full):
    folded = full[1].split("<details", 1)[1].split("</details>", 1)[0]
    silent = [c.text for c in CLAIMS if c.verdict == "no data"]
    assert silent
    assert f"{len(silent)} claim" in folded
    assert folded.count(">no data<") == len(silent)
    assert full[1].count(">no data<") == len(silent)


def test_many_schemes_at_one_budget_are_ranked_and_not_told_by_a_legend(tmp_path):
    names = [f"scheme {i}" for i in range(12)]
    cells = [
        replace(record(400, f, "undistilled"), scheme=name, key=f"{name}{f}")
        for name in names
        for f in (0, 1)
    ]
    text = write_report(cells, suite=suite(published=()), out=tmp_path, store_root=tmp_path)[0].read_text()
    assert "Accuracy of all schemes" in text
    svg = (tmp_path / "figures" / "accuracy.svg").read_text()
    assert all(name in svg for name in names)
    assert "400 labels" in text


def test_what_is_missing_is_left_out_with_a_reason(tmp_path):
    cells = [record(400, 0, "undistilled"), record(400, 0, "teacher")]  # results, no arrays
    paths = write_report(cells, suite=suite(published=(), assumptions={}), out=tmp_path, store_root=tmp_path)
    text = paths[0].read_text()
    assert {p.name for p in paths} == {"report.html", "accuracy.png", "accuracy.svg"}
    for reason in ("superclass-correlation.r", "class-area.ratio", "&lt;tap&gt;/&lt;reducer&gt;/embedding"):
        assert f"no record has an array {reason}" in text
    assert "quoted from the paper" not in text.split("<figure>")[1].split("</figure>")[0]


@pytest.mark.parametrize("cells", [[], [record(400, 0, "kl", status="failed", error="")]])
def test_no_finished_cell_still_makes_a_page(tmp_path, cells):
    [page] = write_report(cells, suite=suite(), out=tmp_path, store_root=tmp_path)
    text = page.read_text()
    assert "no record has a value accuracy.accuracy" in text
    assert Reader(text).stack == []


def test_a_damaged_array_costs_its_figure_alone(tmp_path):
    cells = records(tmp_path, budgets=(400,), folds=1)
    path = tmp_path / cells[0].arrays["superclass-correlation.r"]
    path.write_bytes(b"not an array")
    (tmp_path / cells[0].arrays["A/ivis-torch/class-area.ratio"]).unlink()
    paths = write_report(cells, suite=suite(), out=tmp_path / "out", store_root=tmp_path)
    assert {p.stem for p in paths} == {"report", "accuracy"}
    text = paths[0].read_text()
    assert text.count("an array can&#39;t be read") == 2
    assert "400-0-kl/superclass-correlation.r.npy" in text


def test_folds_of_different_data_are_not_averaged(tmp_path):
    cells = records(tmp_path, budgets=(400,), folds=2)
    np.save(tmp_path / cells[0].arrays["superclass-correlation.r"], np.zeros(7))
    text = write_report(cells, suite=suite(), out=tmp_path / "out", store_root=tmp_path)[0].read_text()
    assert "folds have arrays of different shapes: [(7,), (20,)]" in text


def test_losses_of_different_settings_never_share_a_table(tmp_path):
    from dataclasses import replace

    small, large = record(400, 0, "kl"), record(400, 1, "kl")
    large = replace(
        large, results=tuple(replace(r, setting=r.setting.replace("200", "900")) for r in large.results)
    )
    text = write_report([small, large], suite=suite(), out=tmp_path, store_root=tmp_path)[0].read_text()
    assert [t[0][:2] for t in Reader(text).tables].count(["labels", "scheme"]) == 2
    assert "n=200, k=15" in text
    assert "n=900, k=15" in text


def test_the_same_records_make_the_same_bytes_in_any_order(tmp_path):
    cells = records(tmp_path, budgets=(400,), folds=2)
    made = []
    for name, given in (("a", cells), ("b", cells[::-1])):
        paths = write_report(given, suite=suite(), out=tmp_path / name, store_root=tmp_path)
        made.append({p.relative_to(tmp_path / name): p.read_bytes() for p in paths})
    assert made[0] == made[1]


def test_stored_superclass_names_are_used_without_being_told(tmp_path):
    from dataclasses import replace

    cells = []
    for cell in records(tmp_path, budgets=(400,), folds=1):
        np.save(tmp_path / "names.npy", np.array(SUPERCLASS_NAMES))
        cells.append(replace(cell, arrays={**cell.arrays, "superclass-correlation.names": "names.npy"}))
    text = write_report(cells, suite=suite(), out=tmp_path / "out", store_root=tmp_path)[0].read_text()
    assert ">large omnivores" not in text
    assert ">medium mammals</text>" in text


def test_schemes_that_only_the_paper_has_are_quoted_rows(tmp_path):
    from kdbench.suite.schema import Published

    only = [
        Published(where="T", budget=b, scheme="FixMatch", metric="accuracy", value_name="accuracy", value=v)
        for b, v in ((400, 0.5115), (10000, 0.774))
    ]
    elsewhere = only[1].model_copy(update={"scheme": "Pi-model"})  # at no budget of ours
    cells = [record(400, 0, "kl"), record(2500, 0, "kl")]
    given = suite(published=(*only, elsewhere))
    text = write_report(cells, suite=given, out=tmp_path, store_root=tmp_path)[0].read_text()
    table = Reader(text).tables[0]
    assert table[2:] == [["FixMatch", "51.15", "–"]]


def test_a_label_of_a_scheme_finds_the_number_published_for_its_component(tmp_path):
    from dataclasses import replace

    from kdbench.suite.schema import Component

    cell = replace(record(400, 0, "kl"), scheme="distilled")
    given = suite(schemes=(Component(name="kl", params={"t2_scaling": True}, label="distilled"),))
    text = write_report([cell], suite=given, out=tmp_path, store_root=tmp_path)[0].read_text()
    assert Reader(text).tables[0][1][1].endswith("| 23.75 ± 0.80")


def test_a_number_of_another_network_stands_beside_none_of_ours(tmp_path):
    """As on the leaderboard: its student is WRN-28-8, and ours is not."""
    from kdbench.suite.schema import Published

    ours = record(400, 0, "kl")
    at = {"where": "T", "budget": 400, "scheme": "kl", "metric": "accuracy", "value_name": "accuracy"}
    other = Published(**at, value=0.428, student="WRN-28-8")
    elsewhere = other.model_copy(update={"scheme": "MixMatch"})  # not run
    of_ours = Published(**at, value=0.111, student=ours.student)

    def first_table(*published, cells=(ours,)):
        given = suite(published=published)
        return Reader(
            write_report(cells, suite=given, out=tmp_path, store_root=tmp_path)[0].read_text()
        ).tables[0]

    table = first_table(other, elsewhere)
    assert len(table) == 2
    assert "|" not in table[1][1]
    assert first_table(other, of_ours)[1][1].endswith("| 11.10")
    from dataclasses import replace

    mixed = (ours, replace(ours, key="b", student="WRN-28-8"))
    assert "|" not in first_table(other, of_ours, cells=mixed)[1][1], "the mean of two networks is of neither"


def test_a_quoted_spread_that_is_no_standard_deviation_is_told_by_its_name(tmp_path):
    from kdbench.suite.schema import Published

    kind = "largest max - min over 5 folds"
    loss = {"where": "Table 2", "scheme": "kl", "tap": "C", "metric": "ivis-loss", "value_name": "last"}
    given = suite(published=(Published(**loss, budget=400, value=0.309, spread=0.024, spread_kind=kind),))
    cells = [record(400, 0, "undistilled"), record(400, 0, "kl")]
    text = write_report(cells, suite=given, out=tmp_path, store_root=tmp_path)[0].read_text()
    assert f'title="Table 2; 0.024 ({kind})">0.309</i>' in text
    assert "± 0.024" not in text
    assert f"its spread, in their tooltips, is another: {kind}." in text


def test_numbers_of_one_superclass_stand_at_its_bar(tmp_path):
    from kdbench.suite.schema import Published

    people = Published(
        where="5.2", budget=400, scheme="kl", metric="superclass-correlation", value_name="people", value=0.42
    )
    cells = records(tmp_path, budgets=(400,), folds=1)
    kwargs = {"out": tmp_path / "out", "store_root": tmp_path, "superclass_names": SUPERCLASS_NAMES}
    without = write_report(cells, suite=suite(published=()), **kwargs)[0].read_text()
    text = write_report(cells, suite=suite(published=(people,)), **kwargs)[0].read_text()
    assert "Diamonds are the paper" in text
    assert "Diamonds are the paper" not in without


def test_embeddings_are_coloured_by_what_the_records_know_and_their_times_told(tmp_path):
    from dataclasses import replace

    from kdbench.api import Result

    cells = []
    for cell in records(tmp_path, budgets=(400,), folds=1, embed=True):
        arrays = {k.replace("/labels", "/class-area.label"): v for k, v in cell.arrays.items()}
        time = Result("embedding-time", "seconds", 12.34, "A", "ivis-torch", "n=400")
        cells.append(replace(cell, arrays=arrays, results=(*cell.results, time)))
    text = write_report(cells, suite=suite(), out=tmp_path / "a", store_root=tmp_path)[0].read_text()
    assert "Colour and marker tell each class;" in text
    assert "An embedding took 12.3 to 12.3 s." in text
    np.save(tmp_path / "groups.npy", SUPERCLASS_OF)
    key = "A/ivis-torch/class-area.superclass"
    cells = [replace(c, arrays={**c.arrays, key: "groups.npy"}) if c.arrays else c for c in cells]
    text = write_report(cells, suite=suite(), out=tmp_path / "b", store_root=tmp_path)[0].read_text()
    assert "Colour and marker tell each superclass;" in text
    cells = [
        replace(c, arrays={k: v for k, v in c.arrays.items() if k.endswith("/embedding")}) for c in cells
    ]
    text = write_report(cells, suite=suite(), out=tmp_path / "c", store_root=tmp_path)[0].read_text()
    assert "Colour and marker" not in text


def test_a_teachers_confidence_is_shown(tmp_path):
    from dataclasses import replace

    from kdbench.api import Result

    cell = record(400, 0, "kl")
    told = Result("teacher-confidence", "top_probability", 0.0412, setting="T=4")
    cell = replace(cell, results=(*cell.results, told))
    text = write_report([cell], suite=suite(), out=tmp_path, store_root=tmp_path)[0].read_text()
    assert "0.041 at T=4 (400 labels)" in text


def test_a_folder_that_cannot_be_written_is_an_error_with_advice(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(WorkspaceError, match="can't be written") as error:
        write_report([], suite=suite(), out=blocker, store_root=tmp_path)
    assert error.value.hint


def test_importing_the_report_imports_no_matplotlib():
    code = "import sys, kdbench.report; sys.exit('matplotlib' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
