"""Experiments out of records as the runner writes them."""

from recorded_cells import BUDGETS, SCHEMES, all_recorded, recorded, recorded_suite

from kdbench.leaderboard import collate, evaluate
from kdbench.leaderboard.samples import failures


def rows_of(rows, **fields):
    return [r for r in rows if all(r[k] == v for k, v in fields.items())]


def accuracies(cells, suite=None, **fields):
    return rows_of(collate(cells, suite or recorded_suite()), metric="accuracy.accuracy", **fields)


def test_steps_that_follow_from_the_budget_make_no_variant():
    rows = accuracies(all_recorded())
    assert sorted((r["budget"], r["scheme"]) for r in rows) == sorted(
        (b, s) for b in BUDGETS for s in SCHEMES
    )
    assert {(r["variant"], r["n"]) for r in rows} == {("", 3)}
    shown = {(r["budget"], r["scheme"]): r["published"] for r in rows if r["published"] is not None}
    assert shown == {(400, "distilled"): 0.24, (2500, "distilled"): 0.44, (2500, "teacher"): 0.5}
    assert all(r["difference_n"] == 3 for r in rows if r["scheme"] == "distilled")
    (claim,) = evaluate(all_recorded(), recorded_suite())
    assert (claim.verdict, len(claim.comparisons)) == ("supported", 2)


def test_other_steps_within_a_budget_are_another_experiment():
    longer = [recorded(fold=f, set_={}, key=f"longer-{f}") for f in range(2)]
    for cell in longer:
        cell.params["steps"] = 7
    rows = accuracies(all_recorded() + longer, scheme="distilled")
    assert [(r["budget"], r["variant"], r["n"]) for r in rows] == [
        (400, "", 3), (2500, "", 3), (400, "steps=7", 2),
    ]  # fmt: skip


def test_a_cell_whose_network_failed_belongs_to_its_siblings():
    broken = [
        recorded("distilled", 2500, 3, network_failed=True),
        recorded("teacher", 400, 4, network_failed=True),
    ]
    cells = all_recorded() + broken
    rows = accuracies(cells)
    assert {r["variant"] for r in rows} == {""}
    counts = {(r["budget"], r["scheme"]): r["failed"] for r in rows if r["failed"]}
    assert counts == {(2500, "distilled"): 1, (400, "teacher"): 1}
    assert [c.scheme for c in failures(cells)] == ["teacher", "distilled"]


def test_a_failed_cell_is_made_good_by_one_with_steps():
    broken = recorded("distilled", 400, 1, network_failed=True, key="broken")
    for cells in ([broken, *all_recorded()], [*all_recorded(), broken]):
        assert failures(cells) == []
        assert {r["failed"] for r in accuracies(cells)} == {0}


def test_of_two_experiments_a_failed_cell_counts_to_one():
    few = [recorded(fold=f, key=f"few-{f}") for f in range(2)]
    for cell in few:
        cell.params["steps"] = 7
    rows = accuracies(
        [*few, *all_recorded(), recorded(fold=9, network_failed=True)], scheme="distilled", budget=400
    )
    assert [(r["variant"], r["failed"]) for r in rows] == [("", 1), ("steps=7", 0)]


def test_cells_of_a_network_that_never_worked_are_failures_alone():
    cells = [recorded(s, 400, f, network_failed=True) for f in range(2) for s in SCHEMES]
    assert len(failures(cells)) == 6
    assert collate(cells, recorded_suite()) == []
