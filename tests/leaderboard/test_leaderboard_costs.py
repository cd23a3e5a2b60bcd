"""Steps, images seen and rules of selection on a leaderboard: what schemes are compared at, and by."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from recorded_cells import all_recorded, recorded, recorded_suite
from suite_calls import board_of, collate
from synthetic_cells import cells, with_params

from kdbench.api.records import Result
from kdbench.rendering.export import to_csv
from kdbench.rendering.html import to_html
from kdbench.rendering.markdown import to_markdown
from kdbench.rendering.tables import whole_network_tables


def accuracies(given, **wanted):
    rows = [r for r in collate(given, recorded_suite()) if r.metric == "accuracy.accuracy"]
    return [r for r in rows if all(getattr(r, k) == v for k, v in wanted.items())]


def test_rows_say_what_the_training_of_their_network_came_to():
    rows = {(r.scheme, r.budget): (r.steps, r.images_seen) for r in accuracies(all_recorded())}
    assert rows == {(c.scheme, c.budget): (c.steps, c.images_seen) for c in all_recorded(1)}
    read = list(csv.DictReader(io.StringIO(to_csv(collate(all_recorded(), recorded_suite())))))
    assert {(r["steps"], r["images_seen"]) for r in read if r["scheme"] == "distilled"} == {("937", "60000")}


def test_records_without_steps_leave_the_columns_empty():
    (row,) = [r for r in collate(cells(1)) if r.scheme == "kl" and r.metric == "accuracy.top5"][:1]
    assert (row.steps, row.images_seen) == (None, None)
    board = board_of(cells(1))
    assert "Steps and images seen" not in to_markdown(board)
    assert "<td></td>" in to_html(board)


@pytest.mark.parametrize(
    "changed",
    [
        {"student.epochs": 12},
        {"student.steps": 900},
        {"student.eval_every": 5},  # the median of the last evaluations depends on it
        {"steps": 900},
        {"images_seen": 123},
        {"student.architecture.depth": 16},
        {"data.train": 5000},
    ],
)
def test_other_steps_images_networks_and_data_are_never_averaged(changed):
    several = all_recorded(2) + [with_params(c, "other", changed) for c in all_recorded(2)]
    found = accuracies(several, scheme="distilled", budget=400)
    assert sorted(r.n for r in found) == [2, 2]
    assert len({r.variant for r in found}) == 2
    name = next(iter(changed))
    if name in ("steps", "images_seen"):
        assert {getattr(r, name) for r in found} == {getattr(recorded(), name), changed[name]}


def test_the_page_to_read_lists_steps_and_images_once_a_network():
    board = board_of(all_recorded(), recorded_suite())
    text = to_markdown(board)
    section = text.split("## Steps and images seen")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert lines == [
        "| 400 | undistilled | 225 | 14,400 |",
        "| 400 | distilled | 937 | 60,000 |",
        "| 2500 | undistilled | 1,406 | 90,000 |",
        "| 2500 | distilled | 937 | 60,000 |",
        "| 400 | teacher (resnet18) | 375 | 24,000 |",
        "| 2500 | teacher (resnet18) | 2,343 | 150,000 |",
    ]
    page = to_html(board)
    assert "<button>images_seen</button>" in page
    assert "<td>60000</td>" in page


def by_rule(setting, label="accuracy"):
    """The recorded cells with an accuracy chosen by another rule."""
    return [
        replace(
            c,
            key=f"{c.key}-{setting}",
            results=(Result(label, "accuracy", 0.5, setting=setting, primary=True),),
        )
        for c in all_recorded()
    ]


def test_a_table_says_by_which_rule_it_ranks_and_rules_have_tables_of_their_own():
    rows = collate(by_rule("last epoch") + by_rule("median of the last 20 evaluations"), recorded_suite())
    titles = [t.title for t in whole_network_tables(rows)]
    assert titles == ["accuracy (last epoch)", "accuracy (median of the last 20 evaluations)"]


def test_an_accuracy_with_parameters_in_its_label_is_still_one():
    rows = collate(by_rule("last epoch", "accuracy[last_k=5]"), recorded_suite())
    (table,) = whole_network_tables(rows)
    assert (table.title, table.percent) == ("accuracy[last_k=5] (last epoch)", True)
    assert table.lines[0][1][0].text().startswith("50.00")
    assert any(e.best for _, entries in table.lines for e in entries)
