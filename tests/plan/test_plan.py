"""Plans: keys, shared work, exclusions, refusals, what is outstanding."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import kdbench.plan
from kdbench.api import DataPlaces, ImageData, Split
from kdbench.errors import KdbenchError, SuiteError
from kdbench.plan import KINDS, make_plan, model
from kdbench.suite import load_suite

REAL = Path(__file__).parents[2].parent / "shared" / "data"


def keys(plan) -> set[str]:
    return set(plan.stages)


def kinds(plan) -> Counter:
    return Counter(s.kind for s in plan.stages.values())


def by_kind(plan, kind: str) -> set[str]:
    return {s.key for s in plan.stages.values() if s.kind == kind}


def images(
    n_train: int, n_test: int, n_classes: int, *, superclasses: bool = True, masks: bool = False
) -> ImageData:
    """Black images, as many of every class."""

    def split(n: int) -> Split:
        labels = np.repeat(np.arange(n_classes), n // n_classes)
        return Split(np.zeros((n, 4, 4, 3), np.uint8), labels, np.zeros((n, 4, 4), bool) if masks else None)

    return ImageData(
        train=split(n_train),
        test=split(n_test),
        class_names=tuple(f"c{i}" for i in range(n_classes)),
        superclass_of=np.arange(n_classes) // 5 if superclasses else None,
        superclass_names=tuple(f"s{i}" for i in range(n_classes // 5)) if superclasses else (),
        digest="0" * 64,
    )


def raise_version(monkeypatch, registry: type, kind: str, name: str) -> None:
    """Have the registry give one component's spec a higher version."""
    spec = registry.spec

    def raised(self, k, n):
        found = spec(self, k, n)
        return replace(found, version=found.version + 1) if (k, n) == (kind, name) else found

    monkeypatch.setattr(registry, "spec", raised)


# -- what a plan consists of


def test_a_plan_of_the_tiny_suite(tiny_plan):
    plan = tiny_plan()
    assert kinds(plan) == {
        "teacher": 1, "targets": 1, "student": 2, "features": 2, "neighbours": 2, "embedding": 4,
        # accuracy of three networks; of the students superclass correlation, the ivis loss of one reducer and
        # the class area of two
        "score": 3 + 2 * (1 + 1 + 2),
    }  # fmt: skip
    assert set(kinds(plan)) <= set(KINDS)
    assert [(c.scheme, c.student, c.teacher) for c in plan.cells] == [
        ("teacher", "", "WRN-10-1"),
        ("undistilled", "WRN-10-1", ""),
        ("distilled", "WRN-10-1", "WRN-10-1"),
    ]
    assert plan.exclusions == ("metric ivis-loss of reducer pca: it has no loss history",)


def test_needs_come_before_what_needs_them_and_cells_name_stages(tiny_plan):
    plan = tiny_plan("data.folds=2", "data.budgets=[20, 40]")
    order = {key: i for i, key in enumerate(plan.stages)}
    for stage in plan.stages.values():
        assert all(order[k] < order[stage.key] for k in stage.needs())
        assert plan.stages[stage.key] is stage
    assert len({c.key for c in plan.cells}) == len(plan.cells) == 2 * 2 * 3
    for cell in plan.cells:
        assert set(cell.stages()) <= keys(plan)


def test_schemes_of_a_fold_share_draws_and_seeds_but_folds_do_not(tiny_plan):
    plan = tiny_plan("data.folds=2")
    students = [s for s in plan.stages.values() if s.kind == "student"]
    seeds = {(s.fields.draw.fold, s.fields.seed) for s in students}
    assert len(students) == 4
    assert len(seeds) == 2
    for one in students:
        for other in students:
            if one.fields.draw.fold == other.fields.draw.fold:
                assert replace(one.fields.draw, unlabelled=None) == replace(
                    other.fields.draw, unlabelled=None
                )
                assert one.fields.seed == other.fields.seed


def test_a_second_taught_scheme_adds_no_teacher_work(tiny_plan):
    one = tiny_plan()
    both = tiny_plan('schemes=["undistilled", "kl", { name = "kl", temperature = 8.0, label = "hot" }]')
    for kind in ("teacher", "targets"):
        assert by_kind(one, kind) == by_kind(both, kind)
    assert kinds(both)["student"] == 3


def test_targets_of_many_views_are_filled_as_they_come_up(tiny_plan):
    few, many = tiny_plan(), tiny_plan("student.shift=2")
    (ahead,) = (s for s in few.stages.values() if s.kind == "targets")
    (lazy,) = (s for s in many.stages.values() if s.kind == "targets")
    assert ahead.fields.shift is None
    assert lazy.fields.shift == 2
    assert lazy.runtime.teacher_network is not None
    mirrored = tiny_plan("student.shift=2", "student.shift_fill=reflect")
    assert lazy.key not in mirrored.stages  # other views


def test_a_recipe_that_says_what_held_before_has_the_key_it_had(tiny_plan):
    said = tiny_plan("student.optimizer=sgd", "student.weight_decay_on=all", "student.shift_fill=zero")
    assert set(said.stages) == set(tiny_plan().stages)
    assert set(tiny_plan("student.steps=5").stages) != set(tiny_plan().stages)


def test_a_head_alone_rests_on_one_backbone(tiny_plan):
    plan = tiny_plan("teacher.mode=head", "data.folds=2", "data.budgets=[20, 40]")
    assert kinds(plan)["backbone"] == 1
    assert kinds(plan)["teacher"] == 4
    (backbone,) = by_kind(plan, "backbone")
    for stage in plan.stages.values():
        if stage.kind in ("teacher", "targets"):
            assert stage.inputs["backbone"] == backbone


# -- keys


@pytest.mark.parametrize(
    "override",
    [
        'schemes=[{ name = "kl", temperature = 4.0, label = "distilled" }, "undistilled"]',
        'reducers=[{ name = "ivis-torch", k = 5, batch_size = 16, epochs = 1, label = "ivis-torch" }, "pca"]',
        'reducers=[{ name = "pca", label = "p" }, { name = "ivis-torch", k = 5, batch_size = 16, epochs = 1 }]',
        'metrics=[{ name = "class-area", grid = 32 }, "ivis-loss", "superclass-correlation", "accuracy"]',
        'student.architecture.label="another label"',
        'data.dataset.label="another label"',
        "schemes.kl.label=taught",
        "title=another",
        # a default that is spelt out
        "reducers.pca.n_components=2",
    ],
)
def test_keys_do_not_change_with_order_or_labels(tiny_plan, override):
    assert keys(tiny_plan(override)) == keys(tiny_plan())


def test_keys_do_not_change_with_the_order_of_plugins(tiny_plan, plain_registry):
    from kdbench.registry import Registry

    names = [p.name for p in plain_registry.plugins()]
    assert keys(tiny_plan(registry=Registry.discover(select=names[::-1]))) == keys(tiny_plan())


def test_a_subset_of_a_suite_has_a_subset_of_its_keys(tiny_plan):
    whole = tiny_plan("data.folds=3", "data.budgets=[20, 40]")
    assert keys(tiny_plan("data.folds=2", "data.budgets=[40]")) < keys(whole)
    assert keys(tiny_plan('schemes=["undistilled"]')) < keys(tiny_plan())
    assert keys(tiny_plan('metrics=["accuracy"]', 'teacher_metrics=["accuracy"]')) < keys(tiny_plan())


def test_the_published_numbers_claims_and_assumptions_are_in_no_key(
    tiny_plan, load_tiny, plain_registry, tiny_data
):
    suite = load_tiny().model_copy(update={"assumptions": {"X": "y"}, "summary": "other", "scale": "there"})
    assert keys(make_plan(suite, plain_registry, tiny_data)) == keys(tiny_plan())


@pytest.mark.parametrize(
    ("override", "changed", "kept"),
    [
        ("student.epochs=2", {"student", "features", "embedding"}, {"teacher", "targets"}),
        ("student.precision=bfloat16", {"student"}, {"teacher", "targets"}),
        ("student.architecture.width=2", {"student"}, {"teacher", "targets"}),
        ("teacher.epochs=2", {"teacher", "targets"}, set()),
        ("data.budgets=[40]", {"teacher", "targets", "student", "features", "embedding", "score"}, set()),
        ("data.train=70", {"teacher", "targets", "student"}, set()),
        ("data.validation=10", {"teacher", "targets", "student"}, set()),
        ("data.unlabelled=20", {"targets"}, {"teacher"}),
        ("data.test=60", {"teacher", "student"}, set()),
        ("data.embedded=40", {"features", "embedding"}, {"teacher", "targets", "student"}),
    ],
)
def test_keys_change_with_what_results_depend_on(tiny_plan, override, changed, kept):
    before, after = tiny_plan(), tiny_plan(override)
    for kind in changed:
        assert by_kind(before, kind)
        assert not by_kind(before, kind) & by_kind(after, kind), kind
    for kind in kept:
        assert by_kind(before, kind) == by_kind(after, kind), kind


def test_parameters_of_a_reducer_or_metric_change_its_own_keys_alone(tiny_plan):
    before, after = tiny_plan(), tiny_plan("reducers.ivis-torch.epochs=2")
    assert len(by_kind(before, "embedding") & by_kind(after, "embedding")) == 2  # pca's
    assert by_kind(before, "features") == by_kind(after, "features")
    before, after = tiny_plan(), tiny_plan("metrics.class-area.level=0.9")
    assert by_kind(before, "embedding") == by_kind(after, "embedding")
    assert len(by_kind(before, "score") - by_kind(after, "score")) == 4


def test_the_seed_changes_every_key(tiny_plan):
    assert not keys(tiny_plan()) & keys(tiny_plan(seed=1))


def test_the_digest_of_the_images_changes_every_networks_key(tiny_plan, tiny_data):
    other = tiny_plan(data=replace(tiny_data, digest="f" * 64))
    assert not keys(tiny_plan()) & keys(other)


def test_automatic_precision_is_resolved_in_the_keys(tiny_plan):
    auto = "student.precision=auto"
    assert keys(tiny_plan(auto)) == keys(tiny_plan("student.precision=float32"))
    assert keys(tiny_plan(auto, auto_precision="bfloat16")) == keys(tiny_plan("student.precision=bfloat16"))
    assert keys(tiny_plan(auto)) != keys(tiny_plan(auto, auto_precision="bfloat16"))


@pytest.mark.parametrize(
    ("kind", "name", "changed", "kept"),
    [
        ("schemes", "kl", "student", "targets"),
        ("reducers", "pca", "embedding", "features"),
        ("metrics", "class-area", "score", "embedding"),
        ("architectures", "wide-resnet", "teacher", None),
    ],
)
def test_a_components_version_is_in_its_keys(
    tiny_plan, plain_registry, monkeypatch, kind, name, changed, kept
):
    before = tiny_plan()
    raise_version(monkeypatch, type(plain_registry), kind, name)
    after = tiny_plan()
    assert by_kind(before, changed) != by_kind(after, changed)
    if kept:
        assert by_kind(before, kept) == by_kind(after, kept)


SOURCE = 'teacher.source={ dataset = { name = "shapes", n_train = 100, label = "source" }, epochs = 1 }'


def have_other_settings(before, after) -> bool:
    """Whether every cell with another key in the second plan has other settings too."""
    others = {(c.scheme, c.budget, c.fold): c for c in after.cells}
    pairs = [(c, others[c.scheme, c.budget, c.fold]) for c in before.cells]
    different = [(one, two) for one, two in pairs if one.key != two.key]
    assert different
    return all(one.settings != two.settings for one, two in different)


@pytest.mark.parametrize(
    "override",
    [
        "student.epochs=2",
        "student.architecture.width=2",
        "teacher.epochs=2",
        'teacher.mode="head"',
        "teacher.source.epochs=2",
        "teacher.source.dataset.n_train=200",
        "data.train=70",
        "data.validation=10",
        "data.unlabelled=20",
        "data.test=60",
        "data.embedded=40",
        "schemes.distilled.temperature=2",
        "reducers.ivis-torch.epochs=2",
        "metrics.class-area.level=0.9",
    ],
)
def test_cells_of_other_keys_have_other_settings(tiny_plan, tiny_data, override):
    """Cells of equal settings are folds of one experiment in a leaderboard."""
    source = replace(tiny_data, digest=f"source {override}")
    before = tiny_plan(SOURCE, source=replace(tiny_data, digest="source"))
    after = tiny_plan(SOURCE, override, source=source if "dataset" in override else source_of(tiny_data))
    assert have_other_settings(before, after)
    same = tiny_plan(SOURCE, source=source_of(tiny_data))
    assert [c.settings for c in same.cells] == [c.settings for c in before.cells]


def source_of(data: ImageData) -> ImageData:
    return replace(data, digest="source")


def test_settings_contain_the_images_of_a_source_task(tiny_plan, tiny_data):
    before = tiny_plan(SOURCE, source=source_of(tiny_data))
    assert have_other_settings(before, tiny_plan(SOURCE, source=replace(tiny_data, digest="others")))


@pytest.mark.parametrize(
    ("kind", "name"),
    [("schemes", "kl"), ("reducers", "pca"), ("metrics", "class-area"), ("architectures", "wide-resnet")],
)
def test_settings_contain_the_version_of_a_component(tiny_plan, plain_registry, monkeypatch, kind, name):
    before = tiny_plan()
    raise_version(monkeypatch, type(plain_registry), kind, name)
    assert have_other_settings(before, tiny_plan())


@pytest.mark.parametrize("kind", ["targets", "student", "embedding", "score"])
def test_settings_contain_the_version_of_a_stage(tiny_plan, monkeypatch, kind):
    before = tiny_plan()
    raised = {**model.STAGE_VERSIONS, kind: model.STAGE_VERSIONS.get(kind, 1) + 1}
    for module in (model, kdbench.plan):
        monkeypatch.setattr(module, "STAGE_VERSIONS", raised)
    assert have_other_settings(before, tiny_plan())


def test_settings_contain_the_source_of_a_one_file_plugin(tiny_plan, tmp_path):
    from kdbench.registry import Registry

    text = """
from kdbench.api import MetricResult, MetricSpec, hookimpl
class Constant:
    def __call__(self, view):
        return MetricResult({"value": VALUE})
@hookimpl
def kdbench_metrics():
    return [MetricSpec(name="constant", target="constant:Constant", summary="One number", primary="value")]
"""
    plans = []
    for value in ("1.0", "5.0"):
        file = tmp_path / value / "constant.py"
        file.parent.mkdir()
        file.write_text(text.replace("VALUE", value))
        plans.append(tiny_plan("metrics+=constant", registry=Registry.discover(files=[file])))
    assert have_other_settings(*plans)


def test_a_weights_file_is_known_by_its_content_not_its_path(tiny_plan, tmp_path):
    def with_file(path: Path) -> set[str]:
        return by_kind(
            tiny_plan("teacher.architecture.name=resnet18", f'teacher.architecture.weights="{path}"'),
            "teacher",
        )

    one, same, other = tmp_path / "a.pth", tmp_path / "b.pth", tmp_path / "c.pth"
    one.write_bytes(b"x")
    same.write_bytes(b"x")
    other.write_bytes(b"y")
    assert with_file(one) == with_file(same)
    assert with_file(one) != with_file(other)


def test_neighbours_are_no_part_of_the_keys_of_what_they_help(tiny_plan):
    """The largest k of the suite decides how many are found: another reducer must not change this one's key."""
    before = tiny_plan()
    after = tiny_plan('reducers+={ name = "ivis-torch", k = 9, batch_size = 16, epochs = 1, label = "wide" }')
    assert by_kind(before, "embedding") < by_kind(after, "embedding")
    assert not by_kind(before, "neighbours") & by_kind(after, "neighbours")
    assert {s.fields.k for s in after.stages.values() if s.kind == "neighbours"} == {8}  # itself left out


# -- what is left out, and what is refused


def test_a_reducer_that_no_metric_looks_at_is_left_out_with_a_reason(tiny_plan):
    plan = tiny_plan('metrics=["accuracy"]')
    assert "reducer pca: no metric of the suite reads its embeddings" in plan.exclusions
    assert not by_kind(plan, "embedding")
    assert not any(e.startswith("reducer") for e in tiny_plan().exclusions)


def test_what_a_dataset_lacks_leaves_its_metrics_out(tiny_plan):
    plan = tiny_plan(data=images(200, 100, 10, superclasses=False))
    assert "metric superclass-correlation: the data have no superclasses" in plan.exclusions
    assert not any(s.component == "metrics/superclass-correlation" for s in plan.stages.values())


@pytest.mark.parametrize("masks", [False, True])
def test_a_metric_of_masks_needs_masks(tiny_plan, masks, tmp_path):
    from kdbench.registry import Registry

    path = tmp_path / "masked.py"
    path.write_text(
        "from kdbench.api import MetricSpec, hookimpl\n"
        "class M:\n"
        "    def __call__(self, view): ...\n"
        "@hookimpl\n"
        "def kdbench_metrics():\n"
        "    return [MetricSpec(name='masked', target='masked:M', summary='s', needs=frozenset({'masks'}))]\n"
    )
    registry = Registry.discover(files=[path])
    plan = tiny_plan("metrics+=masked", registry=registry, data=images(200, 100, 10, masks=masks))
    assert ("metric masked: the data have no masks" in plan.exclusions) == (not masks)
    assert any(s.component == "metrics/masked" for s in plan.stages.values()) == masks


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.budgets=[25]"], ["data.budgets: 25 labelled images can't be balanced over 10 classes", "such as 20"]),
        (["data.budgets=[20, 70]"], ["70 labelled", "7 of every class", "has 6 to give", "at most 60"]),
        (["data.train=1000"], ["1000 training", "100 of every class"]),
        (["data.test=13"], ["data.test: 13 test", "10 classes"]),
        (["data.embedded=200"], ["data.embedded: 200 test", "20 of every class", "has 10 to give"]),
        (["data.validation=3"], ["3 validation"]),
        (["data.validation=60"], ["0 to give in addition to 6 held out", "a smaller data.validation"]),
        (["data.unlabelled=50"], ["50 unlabelled", "40 are left", "20 labelled"]),
        (["data.budgets=[60]"], ["budget 60", "'distilled'", "no unlabelled"]),
        (["reducers.ivis-torch.k=30"], ["reducers/ivis-torch", "k=30", "30 rows", "at most 29"]),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_numbers(tiny_plan, overrides, words):
    with pytest.raises(KdbenchError) as caught:
        tiny_plan(*overrides)
    assert caught.value.exit_code == 2
    for word in words:
        assert word in str(caught.value)


def test_a_scheme_that_learns_from_a_teacher_needs_one(load_tiny, plain_registry, tiny_data):
    suite = load_tiny().model_copy(update={"teacher": None})
    with pytest.raises(SuiteError, match="'distilled' needs a teacher"):
        make_plan(suite, plain_registry, tiny_data)


@pytest.mark.parametrize(
    ("scheme", "steps", "fits"),
    [
        ('"kl"', 9, False), ('"kl"', 10, True), ('"kl"', 0, True), ('"undistilled"', 2, True),
        ('{ name = "kl", alternation = "batch", label = "kl" }', 4, True),
        ('{ name = "kl", alternation = "batch", label = "kl" }', 3, False),
    ],
)  # fmt: skip
def test_fixed_steps_must_leave_room_for_a_schemes_whole_passes(tiny_plan, scheme, steps, fits):
    overrides = [f"schemes=[{scheme}]", "student.batch_size=16", "student.epochs=2"]  # 2 steps and 3 steps
    if steps:
        overrides.append(f"student.steps={steps}")
    if fits:
        assert kinds(tiny_plan(*overrides))["student"] == 1
        return
    if steps == 9:
        said = "5 steps, and 9 steps in 2 epochs leave 4 for each"
        hint = "at least 10 steps, at most 1 epoch, or another alternation of the scheme"
    else:
        said, hint = (
            "by batches, and 3 steps in 2 epochs leave less than one",
            "at least 4 steps, or fewer epochs",
        )
    with pytest.raises(SuiteError, match=said) as caught:
        tiny_plan(*overrides)
    assert caught.value.hint == hint
    assert caught.value.where == "schemes/kl"


def test_the_pool_is_not_asked_of_a_suite_that_has_no_use_for_it(tiny_plan):
    plan = tiny_plan('schemes=["undistilled"]', "data.unlabelled=5000", "data.budgets=[60]")
    assert kinds(plan)["student"] == 1


# -- what is outstanding


def test_everything_is_outstanding_at_first_and_nothing_at_last(tiny_plan):
    plan = tiny_plan()
    assert [s.key for s in plan.outstanding(())] == list(plan.stages)
    assert plan.outstanding(plan.stages) == []


def test_what_a_finished_score_rested_on_is_not_made_again(tiny_plan):
    plan = tiny_plan()
    wanted = {k for c in plan.cells for k in c.stages()}
    # the networks, embeddings and scores are there; features, neighbours and targets were deleted
    assert plan.outstanding(wanted) == []
    lost = next(s for s in plan.stages.values() if s.kind == "embedding" and s.component == "reducers/pca")
    again = plan.outstanding(wanted - {lost.key})
    assert [s.kind for s in again] == ["features", "embedding"]
    assert again[0].key == lost.inputs["features"]


def test_a_lost_score_of_logits_needs_its_network_alone(tiny_plan):
    plan = tiny_plan()
    lost = next(s for s in plan.stages.values() if s.component == "metrics/accuracy")
    done = keys(plan) - {lost.key}
    assert plan.outstanding(done) == [lost]
    assert plan.outstanding(done - {lost.inputs["network"]}) == [plan.stages[lost.inputs["network"]], lost]


# -- the paper


def test_the_papers_scale_counts_75_results_and_25_teachers(plain_registry):
    suite = load_suite("paper-reference", scale="paper", registry=plain_registry).suite
    assert suite.data.dataset.name == "cifar100"
    plan = make_plan(suite, plain_registry, images(50_000, 10_000, 100))
    assert len(plan.cells) == 75
    assert Counter(c.scheme for c in plan.cells) == {"teacher": 25, "undistilled": 25, "distilled": 25}
    assert {c.budget for c in plan.cells} == {400, 2500, 5000, 10000, 20000}
    assert kinds(plan)["teacher"] == 25
    assert kinds(plan)["targets"] == 25
    assert kinds(plan)["student"] == 50
    for cell in plan.cells:
        if cell.scheme == "distilled":
            targets = plan.stages[plan.stages[cell.network].inputs["targets"]]
            twin = next(
                c for c in plan.cells if (c.scheme, c.budget, c.fold) == ("teacher", cell.budget, cell.fold)
            )
            assert targets.inputs["teacher"] == twin.network


@pytest.mark.realdata
def test_the_papers_scale_on_the_real_images(plain_registry):
    folders = [Path(p) for p in os.environ.get("KDBENCH_DATA", "").split(os.pathsep) if p] or [REAL]
    if not any((f / "cifar100").is_dir() or f.name == "cifar100" for f in folders):
        pytest.skip("CIFAR-100 is neither in $KDBENCH_DATA nor in ../shared/data")
    import platformdirs

    # the images decoded by an earlier run are taken where there are any
    cache = Path(platformdirs.user_cache_dir("kdbench", appauthor=False)) / "decoded"
    dataset = plain_registry.create("datasets", "cifar100")
    data = dataset.load(DataPlaces(folders=tuple(folders), cache=cache, download=False))
    suite = load_suite("paper-reference", scale="paper", registry=plain_registry).suite
    plan = make_plan(suite, plain_registry, data)
    assert len(plan.cells) == 75
    assert kinds(plan)["teacher"] == 25
