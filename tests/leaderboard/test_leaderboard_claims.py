from dataclasses import replace

import pytest
from scipy import stats
from synthetic_cells import TAPS, cell, cells, suite, with_params

from kdbench.api.records import Result
from kdbench.errors import SuiteError
from kdbench.leaderboard import evaluate

ACCURACY = {"metric": "accuracy", "value_name": "accuracy"}
LOSS = {"metric": "ivis-loss", "value_name": "last"}


def verdict(all_cells, *, left, right, expect="greater", margin=0.0, measured=ACCURACY):
    claim = {"id": "c", "text": "t", "where": "w", **measured, "left": left, "right": right, "expect": expect}
    (found,) = evaluate(all_cells, suite(claim=[claim | {"margin": margin}]))
    return found


def made(values, scheme, budget=400):
    """Cells of one scheme with the given accuracies, one a fold."""
    return [
        replace(cell(scheme, budget, f), results=(Result("accuracy", "accuracy", v, primary=True),))
        for f, v in enumerate(values)
    ]


KL, UD = {"scheme": "kl"}, {"scheme": "undistilled"}


def test_effect_and_interval_are_the_paired_t_test():
    a, b = [0.31, 0.35, 0.28, 0.40, 0.36], [0.21, 0.24, 0.22, 0.28, 0.25]
    v = verdict(made(a, "kl") + made(b, "undistilled"), left=KL, right=UD)
    low, high = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (v.verdict, v.n, v.descriptive) == ("supported", 5, False)
    assert v.effect == pytest.approx(sum(a) / 5 - sum(b) / 5)
    assert (v.low, v.high) == pytest.approx((low, high))


@pytest.mark.parametrize(
    ("expect", "margin", "shift", "word"),
    [
        ("greater", 0.0, 0.1, "supported"),
        ("greater", 0.0, -0.1, "contradicted"),
        ("greater", 0.0, 0.0, "undecided"),
        ("greater", 0.2, 0.1, "contradicted"),
        ("less", 0.0, -0.1, "supported"),
        ("less", 0.0, 0.1, "contradicted"),
        ("equal", 0.05, 0.0, "supported"),
        ("equal", 0.05, 0.1, "contradicted"),
        ("equal", 0.1, 0.1, "undecided"),
        ("equal", 0.0, 0.0, "undecided"),
    ],
)
def test_verdicts(expect, margin, shift, word):
    noise = [0.012, -0.008, 0.004, -0.01, 0.002]
    base = [0.2, 0.25, 0.22, 0.28, 0.24]
    both = made([b + n + shift for b, n in zip(base, noise, strict=True)], "kl") + made(base, "undistilled")
    assert verdict(both, left=KL, right=UD, expect=expect, margin=margin).verdict == word


def test_one_fold_decides_nothing():
    v = verdict(made([0.9], "kl") + made([0.1], "undistilled"), left=KL, right=UD)
    assert (v.verdict, v.low, v.n, v.descriptive) == ("undecided", None, 1, True)
    assert v.effect == pytest.approx(0.8)


def test_three_folds_are_marked_descriptive():
    assert verdict(cells(3), left=KL, right=UD).descriptive


@pytest.mark.parametrize("all_cells", [[], made([0.3, 0.4], "kl")])
def test_nothing_to_compare_is_no_data(all_cells):
    v = verdict(all_cells, left=KL, right=UD)
    assert (v.verdict, v.effect, v.comparisons) == ("no data", None, ())


def test_folds_that_only_one_side_has_are_left_out():
    v = verdict(made([0.3, 0.35, 0.4, 0.2], "kl") + made([0.1, 0.14], "undistilled"), left=KL, right=UD)
    assert v.n == 2


def test_what_both_sides_leave_out_takes_every_value():
    v = verdict(cells(), left=KL, right=UD, measured=LOSS, expect="less")
    assert len(v.comparisons) == 2 * len(TAPS)
    assert v.verdict == "supported"
    assert v.effect == max(c.effect for c in v.comparisons)  # what speaks most against it
    assert v.decisive.startswith("kl · ")


def test_lists_of_one_length_pair_up_and_others_cross():
    paired = verdict(cells(), left=KL | {"tap": ["A", "B"]}, right=KL | {"tap": ["B", "C"]}, measured=LOSS)
    assert len(paired.comparisons) == 2 * 2
    crossed = verdict(cells(), left=KL | {"tap": ["A"]}, right=KL | {"tap": ["B", "C"]}, measured=LOSS)
    assert len(crossed.comparisons) == 2 * 2
    assert crossed.verdict == "supported"  # the loss falls from A to C


def test_what_one_side_leaves_out_is_equal_on_both():
    v = verdict(cells(), left=KL | {"budget": 2500}, right=UD)
    assert [c.left for c in v.comparisons] == ["kl · 2500 labels"]
    assert [c.right for c in v.comparisons] == ["undistilled"]


def test_a_teacher_can_be_compared_with_its_student():
    assert verdict(cells(), left={"scheme": "teacher"}, right=KL).verdict == "supported"


def test_one_contradicted_comparison_contradicts():
    down = made([0.1, 0.11, 0.12, 0.1, 0.13], "kl") + made([0.2, 0.22, 0.21, 0.2, 0.24], "undistilled")
    up = [c for c in cells() if c.budget == 2500]
    v = verdict(down + up, left=KL, right=UD)
    assert v.verdict == "contradicted"
    assert "400 labels" in v.decisive


def test_a_contradiction_is_corrected_for_the_number_of_comparisons():
    """An effect just beyond the 95 % interval contradicts alone, and not as one of ten."""
    a, b = [0.20, 0.26, 0.22, 0.28, 0.24], [0.21, 0.30, 0.22, 0.31, 0.27]
    ttest = stats.ttest_rel(a, b)
    assert 0.01 < ttest.pvalue < 0.05
    one = made(a, "kl") + made(b, "undistilled")
    assert verdict(one, left=KL, right=UD).verdict == "contradicted"
    budgets = range(1000, 1009)
    high = [c for n in budgets for c in made([0.5, 0.51, 0.52, 0.5, 0.53], "kl", n)]
    low = [c for n in budgets for c in made([0.1, 0.11, 0.13, 0.1, 0.12], "undistilled", n)]
    assert verdict(one + high + low, left=KL, right=UD).verdict == "undecided"


def test_other_experiments_of_the_same_name_have_no_say():
    odd = [with_params(c, "x", {"student.epochs": 1}) for c in made([0.0] * 5, "kl")]
    v = verdict(cells() + odd, left=KL, right=UD)
    assert (v.verdict, len(v.comparisons)) == ("supported", 2)


def test_a_component_is_found_by_its_name():
    labelled = [replace(c, scheme="kl[t=2]") for c in cells() if c.scheme == "kl"]
    rest = [c for c in cells() if c.scheme != "kl"]
    v = verdict(labelled + rest, left=KL | {"tap": "A", "reducer": "ivis-torch"}, right=UD, measured=LOSS)
    assert len(v.comparisons) == 2


def test_an_unknown_key_is_refused():
    with pytest.raises(SuiteError, match=r"claim c: .*'taps'.*\n.*'tap'"):
        verdict(cells(), left=KL | {"taps": "A"}, right=UD)


def test_verdicts_are_plain_data():
    data = verdict(cells(), left=KL, right=UD).to_json()
    assert data["verdict"] == "supported"
    assert data["comparisons"][0]["n"] == 5


UP_TO_10000 = KL | {"budget": [400, 2500, 5000, 10000]}


def test_a_named_budget_that_nobody_measured_leaves_the_claim_undecided():
    v = verdict(cells(budgets=(400,)), left=UP_TO_10000, right=UD)
    assert (v.verdict, v.measured) == ("undecided", "1 of 4 measured")
    assert v.missing == ("2500 labels", "5000 labels", "10000 labels")
    assert [c.verdict for c in v.comparisons] == ["supported"]
    assert v.effect == v.comparisons[0].effect
    whole = verdict(cells(budgets=(400, 2500, 5000, 10000)), left=UP_TO_10000, right=UD)
    assert (whole.verdict, whole.missing, whole.measured) == ("supported", (), "4 of 4 measured")


def test_what_was_measured_contradicts_whatever_is_missing():
    down = made([0.1, 0.11, 0.12, 0.1, 0.13], "kl") + made([0.2, 0.22, 0.21, 0.2, 0.24], "undistilled")
    v = verdict(down, left=UP_TO_10000, right=UD)
    assert (v.verdict, v.measured) == ("contradicted", "1 of 4 measured")


def test_of_nothing_measured_all_is_missing():
    v = verdict(cells(), left=KL | {"budget": [5000, 10000]}, right=UD)
    assert (v.verdict, v.missing, v.measured) == (
        "no data",
        ("5000 labels", "10000 labels"),
        "0 of 2 measured",
    )
    v = verdict(cells(), left=KL | {"budget": 20000}, right=UD | {"budget": 20000})
    assert (v.verdict, v.missing) == ("no data", ("kl against undistilled · 20000 labels",))


def test_combinations_of_budgets_and_taps_are_missed_one_by_one():
    kept = [
        replace(c, results=tuple(r for r in c.results if (c.budget, r.tap) != (2500, "B"))) for c in cells()
    ]
    left = KL | {"budget": [400, 2500], "tap": ["A", "B"]}
    v = verdict(kept, left=left, right=UD, measured=LOSS, expect="less")
    assert (v.verdict, v.wanted, v.missing) == ("undecided", 4, ("2500 labels · B",))


def test_sides_without_a_common_fold_are_missing():
    apart = [c for c in cells() if c.budget == 400 or (c.fold < 2) == (c.scheme == "kl")]
    v = verdict(apart, left=KL | {"budget": [400, 2500]}, right=UD)
    assert (v.verdict, v.missing) == ("undecided", ("2500 labels",))


def test_a_component_that_any_label_stands_for_is_not_missing():
    labelled = [replace(c, scheme=f"kl[t={c.budget}]") for c in cells() if c.scheme == "kl"]
    rest = [c for c in cells() if c.scheme != "kl"]
    v = verdict(labelled + rest, left=KL | {"budget": [400, 2500]}, right=UD)
    assert (v.verdict, v.missing, len(v.comparisons)) == ("supported", (), 2)


def test_what_is_missing_is_shown():
    from kdbench.leaderboard.build import board_of
    from kdbench.leaderboard.markdown import to_markdown
    from kdbench.leaderboard.page import to_html
    from kdbench.leaderboard.render import to_json

    claim = {"id": "c", "text": "t", "where": "w", **ACCURACY, "left": UP_TO_10000, "right": UD}
    board = board_of(cells(), "demo", "quick", suite(claim=[claim | {"expect": "greater"}]))
    told = "2 of 4 measured; missing: 5000 labels, 10000 labels"
    assert told in to_markdown(board)
    assert told in to_html(board)
    assert '"missing": [\n    "5000 labels",\n    "10000 labels"\n' in to_json(board)
