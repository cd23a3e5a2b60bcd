import io
from dataclasses import replace

import pytest
from scipy import stats
from suite_calls import board_of, evaluate
from synthetic_cells import TAPS, cell, cells, suite, with_params

from kdbench.api.records import Result
from kdbench.errors import SuiteError
from kdbench.plan.settings import SuiteSettings

ACCURACY = {"metric": "accuracy", "value_name": "accuracy"}
LOSS = {"metric": "ivis-loss", "value_name": "last"}


def claiming(*, left, right, expect="greater", margin=0.0, measured=ACCURACY, **changes):
    claim = {"id": "c", "text": "t", "where": "w", **measured, "left": left, "right": right, "expect": expect}
    return suite(claim=[claim | {"margin": margin}], **changes)


def verdict(all_cells, **how):
    (found,) = evaluate(all_cells, claiming(**how))
    return found


def of_budgets(*budgets):
    return {"dataset": "shapes", "budgets": list(budgets)}


def made(values, scheme, budget=400):
    """Cells of one scheme with the given accuracies, one a fold."""
    return [
        replace(cell(scheme, budget, f), results=(Result("accuracy", "accuracy", v, primary=True),))
        for f, v in enumerate(values)
    ]


KL, UD = {"scheme": "kl"}, {"scheme": "undistilled"}


def test_effect_and_interval_are_the_paired_t_test():
    a, b = [0.31, 0.35, 0.28, 0.40, 0.36], [0.21, 0.24, 0.22, 0.28, 0.25]
    v = verdict(made(a, "kl") + made(b, "undistilled"), left=KL | {"budget": 400}, right=UD)
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
    assert verdict(both, left=KL | {"budget": 400}, right=UD, expect=expect, margin=margin).verdict == word


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
    whole = of_budgets(400, *budgets)
    high = [c for n in budgets for c in made([0.5, 0.51, 0.52, 0.5, 0.53], "kl", n)]
    low = [c for n in budgets for c in made([0.1, 0.11, 0.13, 0.1, 0.12], "undistilled", n)]
    v = verdict(one + high + low, left=KL, right=UD, data=whole)
    assert (v.verdict, v.missing) == ("undecided", ())


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
    from kdbench.rendering.export import to_json
    from kdbench.rendering.html import to_html
    from kdbench.rendering.markdown import to_markdown

    claim = {"id": "c", "text": "t", "where": "w", **ACCURACY, "left": UP_TO_10000, "right": UD}
    board = board_of(cells(), suite(claim=[claim | {"expect": "greater"}]))
    told = "2 of 4 measured; missing: 5000 labels, 10000 labels"
    assert told in to_markdown(board)
    assert told in to_html(board)
    assert '"missing": [\n    "5000 labels",\n    "10000 labels"\n' in to_json(board)


# -- what a claim leaves out


def without(all_cells, **where):
    """The cells, without their results at the places that `where` names; of one key, `budget` say, whole cells."""
    kept = []
    for c in all_cells:
        gone = [
            r for r in c.results if all(getattr(c if k == "budget" else r, k) == v for k, v in where.items())
        ]
        kept.append(replace(c, results=tuple(r for r in c.results if r not in gone)))
    return kept


def test_a_claim_that_names_no_budget_is_about_all_of_the_suite():
    v = verdict(cells(budgets=(400,)), left=KL, right=UD)
    assert (v.verdict, v.measured, v.missing) == ("undecided", "1 of 2 measured", ("2500 labels",))
    assert verdict(cells(budgets=(400,)), left=KL, right=UD, data=of_budgets(400)).verdict == "supported"


def test_a_claim_that_names_no_tap_is_about_all_of_the_suite():
    how = {"left": KL, "right": UD, "measured": LOSS, "expect": "less"}
    v = verdict(without(cells(), metric="ivis-loss", tap="B"), **how)
    assert (v.verdict, v.wanted) == ("undecided", 6)
    assert v.missing == ("400 labels · B", "2500 labels · B")
    assert verdict(cells(), **how).verdict == "supported"


def test_a_claim_that_names_no_reducer_is_about_all_of_the_suite():
    how = {"left": KL | {"tap": "A"}, "right": UD, "measured": LOSS, "expect": "less"}
    ivis = {"name": "ivis-torch", "k": 15}
    assert verdict(cells(), reducers=[ivis], **how).verdict == "supported"
    v = verdict(cells(), reducers=[ivis, {"name": "ivis-torch", "label": "another"}], **how)
    assert (v.verdict, v.missing) == ("undecided", ("400 labels · another", "2500 labels · another"))


def test_a_claim_that_names_no_scheme_is_about_all_of_the_suite():
    how = {"left": {"tap": "C"}, "right": {"tap": "A"}, "measured": LOSS, "expect": "less"}
    v = verdict(cells(), **how)
    assert (v.verdict, v.wanted) == ("supported", 4)  # a teacher has no such loss, and is not missed
    v = verdict([c for c in cells() if c.scheme != "kl"], **how)
    assert v.missing == ("kl · 400 labels", "kl · 2500 labels")


def test_budgets_taps_and_reducers_beyond_the_suite_have_no_say():
    """They would contradict: less accurate at another budget, no difference in the loss of another reducer."""
    worse = [replace(c, budget=900) for c in made([0.0, 0.01, 0.02, 0.0, 0.01], "kl")]
    worse += [replace(c, budget=900) for c in made([0.5, 0.52, 0.51, 0.5, 0.53], "undistilled")]
    v = verdict(cells() + worse, left=KL, right=UD)
    assert (v.verdict, len(v.comparisons)) == ("supported", 2)
    more = [
        replace(c, results=(*c.results, Result("ivis-loss", "last", 0.5 + c.fold / 9, "A", "pca")))
        for c in cells()
    ]
    how = {"left": KL | {"tap": "A"}, "right": UD, "measured": LOSS, "expect": "less"}
    v = verdict(more, reducers=[{"name": "ivis-torch", "k": 15}], **how)
    assert (v.verdict, len(v.comparisons)) == ("supported", 2)
    v = verdict(more, reducers=[{"name": "ivis-torch", "k": 15}, "pca"], **how)
    assert (v.verdict, len(v.comparisons)) == ("undecided", 4)


def test_a_suite_that_names_no_taps_wants_those_that_anything_was_measured_at():
    """All of the student's: only the records know which these are."""
    area = [
        replace(c, results=(*c.results, Result("class-area", "median", 0.5, "B", "ivis-torch[k=15]")))
        for c in without(cells(), metric="ivis-loss", tap="B")
    ]
    v = verdict(area, left=KL, right=UD, measured=LOSS, expect="less", taps=[])
    assert (v.verdict, v.missing) == ("undecided", ("400 labels · B", "2500 labels · B"))


def test_overrides_do_not_narrow_what_a_claim_is_about():
    narrow = claiming(left=KL, right=UD, data=of_budgets(400))
    (v,) = evaluate(cells(budgets=(400,)), narrow, base=claiming(left=KL, right=UD))
    assert (v.verdict, v.missing) == ("undecided", ("2500 labels",))

    whole = claiming(left=KL, right=UD)
    board = board_of(cells(budgets=(400,)), narrow, base=whole)
    assert board.claims[0] == v


def scopes(registry, **changes):
    metrics = ["accuracy", "ivis-loss", "class-area", "knn-accuracy", "neural-collapse", "fidelity"]
    base = {
        "student": {"architecture": {"name": "wide-resnet", "depth": 28}},
        "teacher": {"architecture": "wide-resnet"},
        "reducers": ["ivis-torch", "pca"],
        "metrics": metrics,
        "teacher_metrics": ["accuracy", "knn-accuracy", "fidelity"],
    }
    settings = SuiteSettings(suite(**base | changes), registry)
    return {name: settings.scope(name) for name in metrics}


def test_a_suite_measures_a_metric_where_its_plan_does(plain_registry):
    found = scopes(plain_registry)
    taps, students = tuple(TAPS), ("undistilled", "kl")
    assert {s.budget for s in found.values()} == {(400, 2500)}
    both = ("ivis-torch", "pca")
    places = {name: (s.tap, s.reducer) for name, s in found.items()}
    assert places == {
        "accuracy": ((None,), (None,)),
        "fidelity": ((None,), (None,)),
        "knn-accuracy": (taps, (None,)),
        "neural-collapse": (("C",), (None,)),  # it looks at the head too
        "ivis-loss": (taps, ("ivis-torch",)),  # PCA has no loss history
        "class-area": (taps, both),
    }
    taught = {name for name, s in found.items() if s.scheme == (*students, "teacher")}
    assert taught == {"accuracy", "knn-accuracy"}  # a teacher's likeness to itself is not asked
    open_taps = scopes(plain_registry, taps=[])
    assert (open_taps["class-area"].tap, open_taps["neural-collapse"].tap, open_taps["accuracy"].tap) == (
        None,
        (),
        (None,),
    )


def test_a_reducer_without_a_loss_history_is_not_missed(plain_registry):
    changes = {
        "student": {"architecture": {"name": "wide-resnet", "depth": 28}},
        "teacher": {"architecture": "wide-resnet"},
        "reducers": [{"name": "ivis-torch", "k": 15, "label": "ivis-torch[k=15]"}, "pca"],
        "metrics": ["accuracy", "ivis-loss"],
    }
    how = claiming(left=KL, right=UD, measured=LOSS, expect="less", **changes)
    (v,) = evaluate(cells(), how)
    assert (v.verdict, v.wanted, v.missing) == ("supported", 6, ())
    (v,) = evaluate(without(cells(), metric="ivis-loss", tap="B"), how)
    assert (v.verdict, v.wanted, len(v.missing)) == ("undecided", 6, 2)
    timed = [
        replace(
            c,
            results=tuple(
                Result(
                    "embedding-time",
                    "seconds",
                    float(i + c.fold / 9 + (c.scheme == "kl")),
                    t,
                    "ivis-torch[k=15]",
                )
                for i, t in enumerate(TAPS)
            ),
        )
        for c in cells()
        if c.student
    ]
    slow = claiming(
        left=KL, right=UD, measured={"metric": "embedding-time", "value_name": "seconds"}, **changes
    )
    (v,) = evaluate(timed, slow)  # no metric of the suite is computed of pca's embedding
    assert (v.wanted, v.missing) == (6, ())


# -- like with like


def other(record, **changes):
    """The same of another network or dataset, with a key of its own."""
    return replace(record, key=f"{record.key}-{sorted(changes.items())}", **changes)


def two_networks(**wide):
    """Students labelled D16 on photographs, and far better ones. Nothing of it is the suite's."""
    wide = {"student": "D16", "dataset": "photographs", **wide}
    low = [other(c, student="D16", dataset="photographs") for c in cells() if c.student]
    lifted = [replace(c, results=(replace(c.results[0], value=c.results[0].value + 0.5),)) for c in cells()]
    return low + [other(c, **wide) for c in lifted if c.student]


@pytest.mark.parametrize("wide", [{"student": "W2"}, {"dataset": "digits"}])
def test_students_of_two_networks_or_datasets_are_not_compared(wide):
    v = verdict(two_networks(**wide), left=KL, right=UD)
    assert len(v.comparisons) == 4  # two networks at two budgets; any with any would be eight
    assert all(c.effect == pytest.approx(0.1, abs=0.02) for c in v.comparisons)
    shown = wide.get("dataset", "W2")
    assert sum(shown in c.left for c in v.comparisons) == 2
    assert not any(shown in c.right for c in v.comparisons)


def test_one_network_goes_without_saying():
    v = verdict(cells(), left=KL, right=UD)
    assert [c.left for c in v.comparisons] == ["kl · 400 labels", "kl · 2500 labels"]


def test_a_network_of_the_suite_itself_has_the_only_say():
    v = verdict(cells() + two_networks(student="W2"), left=KL, right=UD)
    assert (v.verdict, len(v.comparisons)) == ("supported", 2)


def test_taps_are_compared_within_one_network():
    both = [other(c, student=s) for s in ("W2", "D16") for c in cells() if c.student]
    v = verdict(both, left=KL | {"tap": "A"}, right=KL | {"tap": "C"}, measured=LOSS)
    assert len(v.comparisons) == 4
    assert sum("W2" in c.left for c in v.comparisons) == 2


def test_a_student_is_compared_with_its_own_teacher():
    """Two teachers, neither the suite's; of one the students are better than it, of the other worse."""
    strong = [other(c, teacher="strong") for c in cells() if c.scheme != "undistilled"]
    weak = [other(c, teacher="weak") for c in cells() if c.scheme == "kl"]
    weak += [
        other(replace(c, results=(replace(c.results[0], value=c.results[0].value - 0.15),)), teacher="weak")
        for c in cells()
        if c.scheme == "teacher"
    ]
    v = verdict(strong + weak, left=KL, right={"scheme": "teacher"})
    assert len(v.comparisons) == 4
    assert sorted(c.effect > 0 for c in v.comparisons) == [False, False, True, True]
    assert all(("weak" in c.left) == (c.effect > 0) for c in v.comparisons)


def test_a_teacher_of_another_recipe_is_not_the_students():
    longer = [with_params(c, "t", {"teacher.epochs": 99}) if c.scheme == "teacher" else c for c in cells()]
    assert verdict(longer, left=KL, right={"scheme": "teacher"}).verdict == "no data"


def test_other_parameters_of_a_reducer_are_not_compared_but_other_reducers_are():
    one, two = "reducers.ivis-torch[k=15].epochs", "reducers.pca.whiten"
    both = [
        with_params(
            replace(c, results=(*c.results, *(replace(r, reducer="pca") for r in c.results if r.tap))),
            "r",
            {one: 10, two: True},
        )
        for c in cells()
    ]
    same = {"measured": LOSS, "expect": "less"}
    assert verdict(both, left=KL | {"reducer": "ivis-torch"}, right=UD, **same).verdict == "supported"
    across = {"left": KL | {"reducer": "ivis-torch"}, "right": KL | {"reducer": "pca"}}
    assert len(verdict(both, **across, **same).comparisons) == 6
    odd = [with_params(c, "odd", {one: 20}) if c.scheme == "kl" else c for c in both]
    assert verdict(odd, left=KL | {"reducer": "ivis-torch"}, right=UD, **same).verdict == "no data"


OWN = {"name": "kl", "student": {"architecture": {"name": "wide-resnet", "depth": 40}, "epochs": 7}}


def test_schemes_with_students_of_their_own_are_compared_as_the_suite_has_them():
    of_suite = [
        with_params(
            other(c, student="wide-resnet[depth=40]"),
            "own",
            {"student.epochs": 7, "student.architecture.depth": 40},
        )
        if c.scheme == "kl"
        else c
        for c in cells()
    ]
    how = {"left": KL, "right": UD, "schemes": ["undistilled", OWN]}
    v = verdict(of_suite, **how)
    assert (v.verdict, len(v.comparisons)) == ("supported", 2)
    assert v.decisive.startswith("kl · ")
    assert "wide-resnet[depth=40] against undistilled · wide-resnet[depth=28]" in v.decisive
    # with what the suite has for neither of them, they differ in more than the suite says
    odd = [with_params(c, "b", {"student.batch_size": 8}) if c.scheme == "kl" else c for c in of_suite]
    assert verdict(odd, **how).verdict == "no data"
    # a scheme that is given the other's network is another experiment
    swapped = of_suite + [other(c, student="wide-resnet[depth=28]") for c in of_suite if c.scheme == "kl"]
    assert len(verdict(swapped, **how).comparisons) == 2
    strange = [other(c, student="W2") if c.scheme == "kl" else c for c in of_suite]
    assert verdict(strange, **how).verdict == "no data"


def test_a_scheme_may_have_a_teacher_of_its_own():
    """A student that learnt from one of its own kind is not of a foreign teacher."""
    born = [
        replace(
            c,
            scheme="born-again",
            teacher="wide-resnet[depth=28]",
            settings=replace(c.settings, teacher=c.settings.student, own_teacher=True),
        )
        for c in cells()
        if c.scheme == "kl"
    ]
    how = {"right": UD, "schemes": ["undistilled", "kl", {"name": "born-again"}]}
    assert verdict(cells() + born, left={"scheme": "born-again"}, **how).verdict == "supported"
    assert len(verdict(cells() + born, left={"scheme": "born-again"}, **how | {"right": KL}).comparisons) == 2


# -- what rests on few folds


@pytest.mark.parametrize(("folds", "word"), [(2, "undecided"), (4, "undecided"), (5, "supported")])
def test_few_folds_that_differ_by_the_very_same_amount_decide_nothing(folds, word):
    """Accuracies on 1,000 images are often equal; 0.3 - 0.2 and 0.4 - 0.3 are, but for rounding."""
    base = [0.2, 0.3, 0.4, 0.5, 0.6][:folds]
    both = made([b + 0.1 for b in base], "kl") + made(base, "undistilled")
    v = verdict(both, left=KL, right=UD, data=of_budgets(400))
    assert (v.verdict, v.n) == (word, folds)
    assert verdict(both, left=UD, right=KL, data=of_budgets(400)).verdict == {
        "supported": "contradicted"
    }.get(word, word)


def test_a_claim_is_descriptive_where_any_of_what_it_rests_on_is():
    few = [c for c in cells() if c.budget == 2500 or c.fold < 3]
    v = verdict(few, left=KL, right=UD)
    assert {c.n for c in v.comparisons} == {3, 5}
    assert (v.verdict, v.descriptive) == ("supported", True)
    assert not verdict(cells(), left=KL, right=UD).descriptive


def test_an_effect_that_is_no_number_speaks_most_against_a_claim():
    broken = [
        replace(c, results=(replace(c.results[0], value=float("nan")),)) if c.budget == 400 else c
        for c in cells()
    ]
    v = verdict(broken, left=KL, right=UD)
    assert (v.verdict, v.decisive) == ("undecided", "kl · 400 labels against undistilled")


@pytest.mark.parametrize("folds", [3, 5])
def test_a_verdict_of_few_folds_is_marked_wherever_it_is_shown(folds):
    from rich.console import Console

    from kdbench.rendering.html import to_html
    from kdbench.rendering.markdown import to_markdown
    from kdbench.rendering.terminal import claims_table

    board = board_of(cells(folds), claiming(left=KL, right=UD))
    assert board.claims[0].verdict == "supported"
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(claims_table(board.claims))
    few = folds < 5
    shown = " ".join(console.export_text().split())
    assert ("(descriptive)" in shown) == few
    assert ("descriptive only (fewer than 5 folds)" in shown) == few
    assert ("supported (descriptive)" in to_markdown(board)) == few
    assert ("supported</span> <small>descriptive" in to_html(board)) == few
