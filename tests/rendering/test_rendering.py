import csv
import io
import json
import math
import os
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console
from suite_calls import board_of, evaluate
from synthetic_cells import cell, cells, suite, with_params

from kdbench.api.records import Result
from kdbench.errors import WorkspaceError
from kdbench.leaderboard import COLUMNS
from kdbench.rendering.export import rounded, to_csv, to_json, to_tex
from kdbench.rendering.files import write
from kdbench.rendering.html import to_html
from kdbench.rendering.markdown import to_markdown
from kdbench.rendering.tables import number
from kdbench.rendering.terminal import claims_table, terminal_table


@pytest.fixture
def failed():
    trace = 'Traceback (most recent call last):\n  File "/home/x/y.py", line 1\nValueError: loss is | NaN'
    return replace(cell("kl", fold=5), status="failed", results=(), error=trace)


@pytest.fixture
def board(failed):
    return board_of([*cells(), failed], suite())


def test_the_same_cells_in_any_order_give_the_same_bytes(tmp_path, failed):
    all_cells = [*cells(), failed]
    for name, given in (("a", all_cells), ("b", all_cells[::-1])):
        write(board_of(given, suite()), tmp_path / name)
    files = sorted(p.name for p in (tmp_path / "a/demo/quick").iterdir())
    assert files == ["README.md", "index.html", "leaderboard.csv", "leaderboard.json", "table.tex"]
    for name in files:
        assert (tmp_path / "a/demo/quick" / name).read_bytes() == (
            tmp_path / "b/demo/quick" / name
        ).read_bytes()


def test_pages_hold_no_place_of_this_machine(board, tmp_path):
    for path in write(board, tmp_path):
        text = path.read_text()
        assert str(tmp_path) not in text
        assert "/home/x" not in text


def test_json_is_written_as_the_json_module_indents_it(board):
    for some in (board, replace(board, rows=board.rows[:1]), replace(board, rows=[])):
        text = to_json(some)
        assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n"
        assert json.loads(text)["rows"] == json.loads(
            json.dumps(rounded([row.to_dict() for row in some.rows]))
        )


def test_csv_reads_back(board):
    read = list(csv.DictReader(io.StringIO(to_csv(board.rows))))
    assert tuple(read[0]) == COLUMNS
    assert len(read) == len(board.rows)
    for line, row in zip(read, board.rows, strict=True):
        assert float(line["mean"]) == pytest.approx(row.mean, rel=1e-5)
        assert line["tap"] == (row.tap or "")


def test_json_reads_back_and_has_no_nan(board):
    data = json.loads(to_json(board), parse_constant=pytest.fail)
    assert (data["suite"], data["scale"], data["columns"]) == ("demo", "quick", list(COLUMNS))
    assert data["claims"][0]["verdict"] == "supported"
    assert data["failed"][0]["error"] == "ValueError: loss is | NaN"


def test_nan_stays_visible():
    odd = replace(cell("kl"), results=(Result("accuracy", "accuracy", math.nan, primary=True),))
    board = board_of([odd])
    assert ",nan," in to_csv(board.rows)
    row = json.loads(to_json(board), parse_constant=pytest.fail)["rows"][0]
    assert (row["mean"], row["published"]) == ("nan", None)  # null is nothing, and this is something
    assert "| nan |" in to_markdown(board)
    assert "nan" in to_html(board)


def test_the_readme_says_what_a_reader_needs(board):
    text = to_markdown(board)
    line = next(t for t in text.splitlines() if t.startswith("| kl |"))
    assert line.count("**") == 4  # best student of both budgets
    quoted = next(t for t in text.splitlines() if t.startswith("| *kl, quoted*"))
    assert "*23.75 ± 0.85*" in quoted
    assert "1 quoted number without a run" in text
    assert "56.51" in text
    for part in (
        "2 cores",
        "wide-resnet[depth=28]",
        "Distilled beats undistilled (5.1) | supported",
        "1 failed",
    ):
        assert part in text
    assert r"ValueError: loss is \| NaN" in text
    assert text.index("**A2**") < text.index("**A10**")
    assert "kdbench leaderboard build demo --scale quick" in text


def test_the_lower_loss_is_the_better_one_where_it_is_known(board):
    text = to_markdown(board)
    kl = [t for t in text.splitlines() if t.startswith("| 400 | kl |") and "±" in t]
    assert kl
    assert all(t.count("**") == 6 for t in kl)
    unknown = replace(board_of(cells(), suite()), directions={})
    assert "**" not in next(t for t in to_markdown(unknown).splitlines() if t.startswith("| 400 | kl |"))


def test_a_metric_without_its_primary_value_is_named(board):
    assert "primary value is not defined" not in to_markdown(board)
    rows = [replace(r, primary=r.primary and not r.metric.startswith("accuracy")) for r in board.rows]
    sentence = "their primary value is not defined here: accuracy"
    assert sentence in to_markdown(replace(board, rows=rows))
    assert sentence in " ".join(shown(terminal_table(rows, board.directions)).split())


def test_every_line_of_a_table_has_as_many_cells(board):
    for block in to_markdown(board).split("\n\n"):
        if block.startswith("|"):
            counts = {t.replace(r"\|", "").count("|") for t in block.splitlines()}
            assert len(counts) == 1, block


def test_variants_have_lines_of_their_own(board):
    longer = [with_params(c, "x", {"student.epochs": 40}) for c in cells() if c.scheme == "kl"]
    text = to_markdown(board_of(cells() + longer, suite()))
    assert "| kl (student.epochs=40) |" in text


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.outside, self.rows = [], [], 0

    def handle_starttag(self, tag, attrs):
        self.outside += [v for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.rows += tag == "tr"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_escaped_and_loads_nothing(board):
    text = to_html(board)
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.outside == []
    assert page.rows > len(board.rows)
    assert "http" not in text.replace("https://", "http")
    assert "A demonstration &lt;&amp;&gt;" in text
    assert "<&>" not in text


def test_the_tex_table_is_booktabs(board):
    text = to_tex(board)
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == text.count(r"\begin{tabular}") == 1
    labelled = [replace(c, scheme="kl[t_2=1%]") if c.scheme == "kl" else c for c in cells()]
    assert r"kl[t\_2=1\%]" in to_tex(board_of(labelled, suite()))
    lines = [t for t in text.splitlines() if t.endswith(r"\\")]
    assert {t.count("&") for t in lines} == {2}


@pytest.mark.parametrize("with_suite", [True, False])
def test_a_board_needs_no_suite_and_no_finished_cell(with_suite, failed, tmp_path):
    only_failed = board_of([failed], suite() if with_suite else None)
    assert only_failed.rows == []
    assert "ValueError" in write(only_failed, tmp_path)[0].read_text()


def test_cells_of_other_scales_and_suites_are_left_out():
    others = [replace(c, scale="paper") for c in cells()] + [replace(c, suite="other") for c in cells()]
    board = board_of(cells() + others, suite())
    assert {(r.suite, r.scale) for r in board.rows} == {("demo", "quick")}


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_cant_be_written(board, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(WorkspaceError, match="can't be written"):
        write(board, tmp_path)


def test_a_file_where_the_folder_should_be(board, tmp_path):
    (tmp_path / "demo").write_text("")
    with pytest.raises(WorkspaceError, match="--out"):
        write(board, tmp_path)


def shown(renderable):
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def test_the_terminal_shows_labels_with_brackets_within_100_columns():
    five = tuple("ABCDE")
    many = []
    for c in cells(budgets=(400, 2500, 5000, 10000, 20000)):
        loss = tuple(Result("ivis-loss", "last", 0.5, t, "ivis-torch[k=15]", "n=2000", True) for t in five)
        label = "kl[t2_scaling=True]" if c.scheme == "kl" else c.scheme
        many.append(replace(c, scheme=label, results=c.results[:1] + (loss if c.student else ())))
    text = shown(terminal_table(board_of(many, suite(taps=list(five))).rows))
    assert "kl[t2_scaling=True]" in text
    assert "ivis-torch[k=15]" in text
    assert "…" not in text
    assert max(len(t.rstrip()) for t in text.splitlines()) <= 100


def test_the_terminal_says_when_there_is_nothing():
    assert "nothing to rank" in shown(terminal_table([]))


def test_the_terminal_shows_claims():
    text = shown(claims_table(evaluate(cells(), suite())))
    assert "supported" in text
    assert "Distilled beats" in text
    assert "2 of 2 comparisons" in text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (((0.2375, 0.0085), {"percent": True}), "23.75 ± 0.85"),
        (((0.2375,), {}), "0.237"),
        (((16384.0,), {}), "16384"),
        (((0.00012,), {}), "1.20e-04"),
        (((None,), {}), ""),
    ],
)
def test_numbers(given, text):
    assert number(*given[0], **given[1]) == text


def test_rounding_keeps_six_digits_and_no_negative_zero():
    assert rounded([0.12345678, -0.0, math.inf, -math.nan, "x", 3]) == [0.123457, 0.0, "inf", "nan", "x", 3]
    assert math.copysign(1, rounded(-0.0)) == 1


def test_numbers_of_another_dataset_stand_apart():
    of_cifar = suite(published_dataset="cifar100")
    board = board_of(cells(), of_cifar)  # on shapes
    text = to_markdown(board)
    assert {r.published for r in board.rows} == {None}
    assert ", quoted*" not in text
    block = text[text.index("## Quoted from the paper on cifar100") :]
    assert "3 quoted numbers without a run" in block
    assert "*23.75 ± 0.85*" in block
    assert "of shapes" in block
    assert "The paper's numbers are on cifar100" in text
    assert "23.75" not in to_html(board)
    assert "23.75" not in to_tex(board)


@pytest.mark.parametrize("title", ["cifar100", "cifar100[download=False]"])
def test_numbers_of_the_papers_dataset_stand_beside_ours(title):
    ours = [replace(c, dataset=title) for c in cells()]
    mixed = board_of([*ours, *cells()], suite(published_dataset="cifar100"))
    quoted = {(r.dataset, r.budget, r.scheme) for r in mixed.rows if r.published is not None}
    assert quoted == {(title, 400, "kl")}
    text = to_markdown(mixed)
    assert "1 quoted number without a run" in text
    assert "of shapes" in text


def test_quoted_numbers_alike_are_told_apart():
    """One value stands twice in a table of the paper; one of the places was not measured."""
    entry = {"where": "Table 1", "metric": "accuracy", "value_name": "accuracy", "value": 0.5, "scheme": "kl"}
    board = board_of(cells(), suite(published=[entry | {"budget": b} for b in (400, 9000)]))
    block = to_markdown(board).split("## Quoted")[1].split("##")[0]
    assert "| 9000 |" in block
    assert "| 400 |" not in block


def test_the_spread_of_a_quoted_number_says_of_what_kind_it_is():
    entry = {
        "where": "Table 1",
        "budget": 400,
        "scheme": "kl",
        "metric": "accuracy",
        "value_name": "accuracy",
    }
    kind = "standard deviation over 5 folds"
    of = suite(published=[entry | {"value": 0.2375, "spread": 0.0085, "spread_kind": kind}])
    lines = list(csv.DictReader(io.StringIO(to_csv(board_of(cells(), of).rows))))
    assert list(lines[0])[-2:] == ["published_spread", "published_spread_kind"]
    told = {(t["published"], t["published_spread"], t["published_spread_kind"]) for t in lines}
    assert told == {("0.2375", "0.0085", kind), ("", "", "")}


def test_a_quoted_spread_stands_behind_plus_minus_where_it_is_a_standard_deviation_alone():
    loss = {"metric": "ivis-loss", "value_name": "last", "budget": 400, "scheme": "kl"}
    kind = "largest max - min over 5 folds"
    entries = [
        {"where": "Table 2", **loss, "tap": "A", "value": 0.255, "spread": 0.121, "spread_kind": kind},
        {
            "where": "Table 2",
            **loss,
            "tap": "B",
            "value": 0.36,
            "spread": 0.012,
            "spread_kind": "standard deviation",
        },
        {"where": "Table 2", **loss, "tap": "C", "value": 0.229, "spread": 0.024},
        {"where": "Table 2", **loss, "tap": "Z", "value": 0.7, "spread": 0.123, "spread_kind": kind},
    ]
    board = board_of(cells(), suite(published=entries))
    text = to_markdown(board)
    assert next(t for t in text.splitlines() if "*kl, quoted*" in t).endswith(
        "| *0.255* | *0.360 ± 0.012* | *0.229* |"
    )
    assert f"another: {kind}; of an unknown kind." in text.split("## Quoted")[0]
    assert f"| *0.700* | Table 2; 0.123 ({kind}) |" in text.split("## Quoted")[1]
    page, tex = to_html(board), to_tex(board)
    assert f'title="Table 2; 0.121 ({kind})">0.255</i>' in page
    assert 'title="Table 2">0.360 ± 0.012</i>' in page
    assert f"another: {kind}; of an unknown kind." in page
    whole = suite(published=[{**entries[0], "tap": None, "metric": "accuracy", "value_name": "accuracy"}])
    tex = to_tex(board_of(cells(), whole))
    assert r"\textit{25.50}" in tex
    assert kind in tex
    for shown in (text, page, tex):
        assert "0.121 " not in shown.replace("0.121 (", "")
        assert "± 0.12" not in shown


def test_every_page_says_that_folds_of_a_number_failed():
    failed = replace(cell("kl", fold=5), status="failed", results=(), error="ValueError: x")
    board = board_of([*cells(), failed], suite(published=[]))
    assert "** (1 failed) |" in to_markdown(board)
    assert "</b> (1 failed)</td>" in to_html(board)
    (line,) = (t for t in to_tex(board).splitlines() if t.startswith("kl "))
    assert line.count(r"\footnotesize(1 failed)") == 1
    assert "(1 failed)" in shown(terminal_table(board.rows, board.directions))


@pytest.mark.parametrize(
    ("label", "written"),
    [
        ("*kl*", r"\*kl\*"),
        ("_kl_", r"\_kl\_"),
        ("kl[t2_scaling=True]", "kl[t2_scaling=True]"),
        ("<b>", r"\<b>"),
        ("a|`b`", r"a\|\`b\`"),
        ("[x](http://e)", r"[x\](http://e)"),
        ("a &lt; b", r"a \&lt; b"),
    ],
)
def test_a_label_is_no_markdown(label, written):
    named = [replace(c, scheme=label, student=label) if c.scheme == "kl" else c for c in cells()]
    text = to_markdown(board_of(named, suite(published=[])))
    assert f"| {written} ({written}) |" in text
    if written != label:
        assert label not in text.replace(written, "")


def test_code_of_an_error_that_holds_backticks_is_one_span():
    failed = replace(cell("kl"), status="failed", results=(), error="ValueError: `x` | y")
    assert r"| `` ValueError: `x` \| y `` |" in to_markdown(board_of([failed]))
