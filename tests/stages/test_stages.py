"""Stages: what teachers tell students, what students may read, what is kept of a network."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kdbench.api import Split
from kdbench.api.draws import draw_test
from kdbench.errors import DataError
from kdbench.plan.fields import Draw
from kdbench.stages import networks, student, targets, task, teaching
from kdbench.stages.task import Task, dataset_key
from kdbench.store import Draft, Store
from kdbench.training.data import Augmentation, TrainingBatch
from kdbench.training.teaching import LiveTeacher, Teaching, top_probability


def stage_of(plan, kind: str, words: str = ""):
    for stage in plan.stages.values():
        if stage.kind == kind and words in stage.title:
            return stage
    raise AssertionError(f"no {kind} {words}")


@pytest.fixture
def make_task(plain_registry, places, tiny_data):
    """`make_task(stage, store, data=None)`: a stage ready to be carried out; the images are `data`."""

    def make(stage, store, data=None) -> Task:
        made = Task(stage, store, plain_registry, places)
        if reference := stage.runtime.dataset:
            made.data[dataset_key(reference.name, reference.params)] = data or tiny_data
        return made

    return make


def carry(run, made: Task, folder: Path) -> tuple[dict[str, torch.Tensor], Draft]:
    """Run a stage outside of a store; (its model, its draft)."""
    from safetensors.torch import load_file

    folder.mkdir()
    draft = Draft(folder)
    made = replace(made, store=made.store)
    for _ in run(made, draft) or ():
        pass
    model = folder / "model.safetensors"
    return (load_file(model) if model.exists() else {}), draft


def normalised(data, rows: np.ndarray, flipped: np.ndarray) -> torch.Tensor:
    """The images as a network without statistics of its own sees them, in NumPy and float64."""
    everything = np.asarray(data.train.images, dtype=np.float64) / 255
    mean, std = everything.mean((0, 1, 2)).round(4), everything.std((0, 1, 2)).round(4)
    seen = [everything[r][:, ::-1] if f else everything[r] for r, f in zip(rows, flipped, strict=True)]
    scaled = (np.stack(seen) - mean) / std
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2).astype(np.float32))


def batch_of(rows: np.ndarray, views: np.ndarray) -> TrainingBatch:
    none = torch.empty(0)
    return TrainingBatch(none, None, torch.from_numpy(rows), torch.from_numpy(views), torch.arange(len(rows)))


def teacher_network(made: Task, key: str, data, stage):
    architecture = made.registry.create("architectures", "wide-resnet", {"depth": 10})
    return networks.trained_network(made, made.store.open(key), architecture, data)


# -- what a teacher tells


def test_targets_are_the_teachers_logits_for_exactly_the_views_of_a_batch(
    finished, make_task, tiny_data, tmp_path
):
    plan, store, _ = finished
    made = make_task(stage_of(plan, "student", "student distilled"), store)
    scheme = SimpleNamespace(temperature=4.0)
    taught = teaching.teaching_of(made, tiny_data, scheme, Augmentation(True, 0), Draft(tmp_path))
    assert taught is not None
    look_up = taught.logits
    fold = made.stage.fields.draw.of(tiny_data)
    rows = np.random.default_rng(0).permutation(np.concatenate([fold.labelled, fold.unlabelled]))
    views = np.random.default_rng(1).integers(0, 2, len(rows))
    teacher = teacher_network(made, plan.cells[0].network, tiny_data, made.stage)
    with torch.no_grad():
        live = teacher(normalised(tiny_data, rows, views == 1))
    told = look_up(batch_of(rows, views))
    torch.testing.assert_close(told, live, atol=1e-4, rtol=1e-4)
    assert not told.requires_grad
    other = look_up(batch_of(rows, 1 - views))
    assert not torch.allclose(told, other, atol=1e-3)  # the views do differ


def test_of_many_views_a_teacher_tells_those_that_are_asked_for(
    tiny_plan, make_task, tiny_data, finished, tmp_path
):
    """With shifts there are too many views to compute ahead: a cache is filled as they come up, shared by all
    students of the teacher, in half precision."""
    _, done, _ = finished
    shutil.copytree(done.root, tmp_path / "store")
    store = Store(tmp_path / "store")
    plan = tiny_plan("student.shift=1")
    stage = stage_of(plan, "targets")
    _, draft = carry(targets.run, make_task(stage, store), tmp_path / "targets")
    assert draft.values["filled_lazily"]
    task.execute(make_task(stage, store))

    made = make_task(stage_of(plan, "student", "student distilled"), store)
    scheme, augmentation = SimpleNamespace(temperature=4.0), Augmentation(True, 1)
    first = teaching.teaching_of(made, tiny_data, scheme, augmentation, Draft(tmp_path))
    assert first is not None
    rows, views = (
        np.array([3, 50, 51, 120]),
        np.array([8, 9, 0, 17]),
    )  # in place, mirrored, and in two corners
    told = first.logits(batch_of(rows, views))
    teacher = teacher_network(made, stage.inputs["teacher"], tiny_data, made.stage)
    with torch.no_grad():
        expected = teacher(normalised(tiny_data, rows[:2], np.array([False, True])))
    torch.testing.assert_close(told[:2], expected, atol=2e-3, rtol=2e-3)
    assert not told.requires_grad
    assert torch.equal(told, told.half().float())
    # another student finds them and never asks the teacher
    made = make_task(stage_of(plan, "student", "student distilled"), store)
    second = teaching.teaching_of(made, tiny_data, scheme, augmentation, Draft(tmp_path))
    assert second is not None
    assert torch.equal(second.logits(batch_of(rows[::-1].copy(), views[::-1].copy())), told.flip(0))
    assert not made.shared


def test_students_that_take_turns_end_as_they_would_alone(
    tiny_plan, make_task, finished, tmp_path, monkeypatch
):
    """Two schemes that read the teacher's activations, one teacher pass a batch."""
    plan = tiny_plan(
        'schemes=[{ name = "similarity", weight = 10.0, label = "a" }, '
        '{ name = "similarity", weight = 3000.0, label = "b" }]'
    )
    stages = [s for s in plan.stages.values() if s.kind == "student"]
    assert [set(s.inputs) for s in stages] == [{"teacher"}] * 2
    _, done, _ = finished
    models, forwards = {}, {}
    for how in ("alone", "together"):
        shutil.copytree(done.root, tmp_path / how)
        store, seen = Store(tmp_path / how), []
        see = LiveTeacher.see
        monkeypatch.setattr(LiveTeacher, "see", lambda *a, see=see, seen=seen: seen.append(1) or see(*a))
        monkeypatch.setattr("kdbench.stages.teaching.sample_logits", lambda live: torch.zeros(2, 10))
        tasks = [make_task(stage, store) for stage in stages]
        if how == "alone":
            outcomes = [task.execute(t) for t in tasks]
        else:
            outcomes = list(task.execute_in_turns(tasks))
        monkeypatch.undo()
        assert {o.key for o in outcomes} == {s.key for s in stages}
        assert {o.status for o in outcomes} == {"finished"}, [o.error for o in outcomes]
        models[how] = [store.open(s.key).tensors("model") for s in stages]
        forwards[how] = len(seen)
    for alone, together in zip(models["alone"], models["together"], strict=True):
        assert all(torch.equal(alone[k], together[k]) for k in alone)
    assert any(not torch.equal(models["alone"][0][k], models["alone"][1][k]) for k in models["alone"][0])
    assert 2 * forwards["together"] == forwards["alone"]


def test_one_that_fails_among_those_that_take_turns_fails_alone(tiny_plan, make_task, finished, tmp_path):
    plan = tiny_plan('schemes=["undistilled", { name = "kl", temperature = 2.0, label = "hopeless" }]')
    _, done, _ = finished
    shutil.copytree(done.root, tmp_path / "store")
    store = Store(tmp_path / "store")
    good, hopeless = (stage_of(plan, "student", word) for word in ("undistilled", "hopeless"))
    shutil.rmtree(store.open(good.key).folder)
    shutil.rmtree(store.open(hopeless.inputs["targets"]).folder)
    outcomes = {o.key: o for o in task.execute_in_turns([make_task(s, store) for s in (good, hopeless)])}
    assert outcomes[good.key].status == "finished"
    assert outcomes[hopeless.key].status == "failed"
    assert "KeyError" in outcomes[hopeless.key].error
    assert store.has(good.key)


def test_confidence_at_a_temperature():
    logits = np.random.default_rng(0).standard_normal((2, 40, 7)) * 3
    for t in (1.0, 4.0):
        exp = np.exp(logits.reshape(-1, 7) / t)
        expected = (exp / exp.sum(1, keepdims=True)).max(1).mean()
        assert top_probability(torch.from_numpy(logits), t) == pytest.approx(expected, abs=1e-6)
    assert top_probability(torch.zeros(3, 5), 1.0) == pytest.approx(0.2)


def test_a_nearly_uniform_teacher_is_warned_of_and_recorded(finished):
    plan, store, report = finished
    (warning,) = report.warnings  # one student learns from it
    assert "nearly uniform at T=4" in warning
    assert "chance 0.100" in warning
    values = store.open(stage_of(plan, "student", "student distilled").key).values
    assert values["warnings"] == [warning]
    assert values["teacher_confidence"]["temperature"] == 4.0
    recorded = store.open(stage_of(plan, "targets").key).values["top_probability"]["4"]
    assert values["teacher_confidence"]["top_probability"] == recorded
    cell = next(c for c in report.cells if c.scheme == "distilled")
    (confidence,) = [r for r in cell.results if r.metric == "teacher-confidence"]
    assert (confidence.value, confidence.setting) == (recorded, "T=4")


def test_a_sure_teacher_is_not_warned_of(finished, make_task, tmp_path):
    plan, store, _ = finished
    made = make_task(stage_of(plan, "student", "student distilled"), store)
    plain = SimpleNamespace(temperature=4.0)

    def sure(top: float) -> torch.Tensor:
        """Logits of 10 classes whose top probability is `top` at T = 4."""
        others = np.log((1 - top) / 9)
        return torch.tensor([[4 * np.log(top)] + [4 * others] * 9])

    teaching._check_confidence(made, Draft(tmp_path), plain, sure(0.51), 10)
    # a factor T² makes up for it
    teaching._check_confidence(
        made, Draft(tmp_path), SimpleNamespace(temperature=4.0, t2_scaling=True), sure(0.2), 10
    )
    assert made.warnings == []
    teaching._check_confidence(made, Draft(tmp_path), plain, sure(0.49), 10)
    assert len(made.warnings) == 1


# -- what a student reads


def poisoned(data, kept: np.ndarray):
    """The same images, with the labels of all training images but `kept` swapped about."""
    labels = np.array(data.train.labels)
    others = np.setdiff1d(np.arange(len(labels)), kept)
    labels[others] = (labels[others] + 1 + others % (data.n_classes - 1)) % data.n_classes
    assert (labels[others] != np.asarray(data.train.labels)[others]).all()
    return replace(data, train=Split(data.train.images, labels, data.train.masks))


def test_labels_outside_the_labelled_draw_are_never_read(
    finished, make_task, tiny_data, tmp_path, monkeypatch
):
    plan, store, _ = finished
    stage = stage_of(plan, "student", "student distilled")
    fold = stage.fields.draw.of(tiny_data)
    # the draw itself has to read labels, to be balanced; everything after it sees the poisoned ones
    monkeypatch.setattr(Draw, "of", lambda *_: fold)
    other = poisoned(tiny_data, fold.labelled)
    honest, _ = carry(student.run, make_task(stage, store), tmp_path / "a")
    blind, _ = carry(student.run, make_task(stage, store, other), tmp_path / "b")
    assert all(torch.equal(honest[k], blind[k]) for k in honest)
    _, draft = carry(targets.run, make_task(stage_of(plan, "targets"), store, other), tmp_path / "c")
    assert np.array_equal(
        np.load(draft.folder / "logits.npy"), store.open(stage_of(plan, "targets").key).array("logits")
    )
    # and the poison works: labels of the labelled images do matter
    swapped, _ = carry(
        student.run, make_task(stage, store, poisoned(tiny_data, fold.unlabelled)), tmp_path / "d"
    )
    assert any(not torch.equal(honest[k], swapped[k]) for k in honest)


def test_a_stage_carried_out_again_gives_the_same_bits(finished, make_task, tmp_path):
    plan, store, _ = finished
    for words in ("student undistilled", "student distilled"):
        stage = stage_of(plan, "student", words)
        again, _ = carry(student.run, make_task(stage, store), tmp_path / words.split()[1])
        kept = store.open(stage.key).tensors("model")
        assert all(torch.equal(again[k], kept[k]) for k in kept)


def test_every_scheme_of_a_fold_starts_from_the_same_weights(
    tiny_plan, finished, make_task, tmp_path, monkeypatch
):
    _, store, _ = finished
    starts: dict[str, dict] = {}

    class Started(Exception):
        pass

    def stop(run, *_args, **_more):
        starts[made.stage.title] = {k: v.clone() for k, v in run.student.state_dict().items()}
        raise Started

    monkeypatch.setattr(student, "training_steps", stop)
    plan = tiny_plan(
        "data.folds=2", 'schemes=["undistilled", { name = "undistilled", passes = 2, label = "long" }]'
    )
    for stage in plan.stages.values():
        if stage.kind == "student":
            made = make_task(stage, store)
            with pytest.raises(Started):
                carry(student.run, made, tmp_path / stage.key)
    short, long = (starts[f"student {s} · 20 labels · fold 1"] for s in ("undistilled", "long"))
    other = starts["student undistilled · 20 labels · fold 2"]
    assert all(torch.equal(short[k], long[k]) for k in short)
    assert any(not torch.equal(short[k], other[k]) for k in short)


def test_what_the_teacher_says_reaches_the_student(finished, make_task, tmp_path, monkeypatch):
    plan, store, _ = finished
    stage = stage_of(plan, "student", "student distilled")
    told = student.teaching_of

    def contrary(*args):
        taught = told(*args)
        return Teaching(logits=lambda batch: -5 * taught.logits(batch))

    monkeypatch.setattr(student, "teaching_of", contrary)
    taught_otherwise, _ = carry(student.run, make_task(stage, store), tmp_path / "a")
    kept = store.open(stage.key).tensors("model")
    assert all(not torch.equal(taught_otherwise[k], kept[k]) for k in kept if k.endswith("weight"))
    history = store.open(stage.key).table("history")
    assert history["loss.kl"][0] > 0
    assert history["loss.cross_entropy"][0] > 0


# -- a teacher of which the head alone is trained


@pytest.fixture(scope="module")
def head_run(tiny_plan, carry_out, tmp_path_factory):
    plan = tiny_plan(
        "teacher.mode=head",
        "teacher.epochs=30",
        'metrics=["accuracy"]',
        "reducers=[]",
        "student.eval_every=0",
    )
    store = Store(tmp_path_factory.mktemp("head"))
    report = carry_out(plan, store)
    assert report.summary.status == "finished", report.failed
    return plan, store


def test_the_head_folded_into_the_network_says_what_it_said_on_standardised_features(
    head_run, make_task, tiny_data
):
    plan, store = head_run
    stage = stage_of(plan, "teacher")
    artifact = store.open(stage.key)
    made = make_task(stage, store)
    network = teacher_network(made, stage.key, tiny_data, stage)
    rows = stage.fields.test.test(tiny_data)
    as_train = replace(tiny_data, train=Split(tiny_data.test.images, tiny_data.test.labels))
    pixels = normalised(as_train, rows, np.zeros(len(rows), bool))
    # normalised by the training images' statistics, not by the test images' own
    pixels = _renormalised(pixels, as_train, tiny_data)
    with torch.no_grad():
        logits = network(pixels)
    np.testing.assert_allclose(logits, artifact.array("test_logits"), atol=2e-3, rtol=1e-3)
    assert set(artifact.tensors("model")) == {"head.weight", "head.bias"}


def _renormalised(pixels: torch.Tensor, was, now) -> torch.Tensor:
    def statistics(data) -> tuple[torch.Tensor, torch.Tensor]:
        scaled = np.asarray(data.train.images, dtype=np.float64) / 255
        mean, std = scaled.mean((0, 1, 2)).round(4), scaled.std((0, 1, 2)).round(4)
        return torch.from_numpy(mean)[:, None, None], torch.from_numpy(std)[:, None, None]

    (mean, std), (new_mean, new_std) = statistics(was), statistics(now)
    return ((pixels.double() * std + mean - new_mean) / new_std).float()


def test_a_head_is_trained_on_zero_mean_and_unit_variance(head_run, tiny_data):
    """The same head by hand: features standardised over the labelled images, seen through the kept weights."""
    plan, store = head_run
    stage = stage_of(plan, "teacher")
    backbone = store.open(stage.inputs["backbone"])
    head = store.open(stage.key).tensors("model")
    fold = stage.fields.draw.of(tiny_data)
    rows = np.asarray(backbone.array("train_rows"))
    features = np.asarray(backbone.array("train"), dtype=np.float64)
    labelled = features[:, np.searchsorted(rows, fold.labelled)]
    logits = labelled.reshape(-1, labelled.shape[-1]) @ head["head.weight"].double().numpy().T
    logits += head["head.bias"].double().numpy()
    labels = np.tile(np.asarray(tiny_data.train.labels)[fold.labelled], 2)
    assert (logits.argmax(1) == labels).mean() > 0.5  # it learned from them, through the folded weights
    curve = store.open(stage.key).table("history")["loss.cross_entropy"]
    assert curve[0] == pytest.approx(np.log(10), abs=0.35)  # from zero weights
    assert curve[-1] < 0.7 * curve[0]


def test_targets_of_a_head_are_what_its_network_says(head_run, make_task, tiny_data):
    plan, store = head_run
    stage = stage_of(plan, "targets")
    artifact = store.open(stage.key)
    rows = np.asarray(artifact.array("rows"))
    network = teacher_network(make_task(stage, store), stage.inputs["teacher"], tiny_data, stage)
    with torch.no_grad():
        for view in (0, 1):
            live = network(normalised(tiny_data, rows, np.full(len(rows), bool(view))))
            np.testing.assert_allclose(artifact.array("logits")[view], live, atol=2e-3, rtol=1e-3)


# -- features, and networks put together again


def test_features_are_the_flattened_outputs_at_the_taps(finished, make_task, tiny_data):
    plan, store, _ = finished
    stage = stage_of(plan, "features", "undistilled")
    artifact = store.open(stage.key)
    made = make_task(stage, store)
    network = teacher_network(made, stage.inputs["network"], tiny_data, stage)
    rows = np.asarray(artifact.array("rows"))
    assert np.array_equal(rows, draw_test(tiny_data.test.labels, 10, size=30, seed=0))
    as_train = replace(tiny_data, train=Split(tiny_data.test.images, tiny_data.test.labels))
    pixels = _renormalised(normalised(as_train, rows, np.zeros(30, bool)), as_train, tiny_data)
    architecture = made.registry.create("architectures", "wide-resnet", {"depth": 10})
    caught = []
    module = network.get_submodule(architecture.taps(network)["E"])
    module.register_forward_hook(lambda _m, _i, out: caught.append(out))
    with torch.no_grad():
        logits = network(pixels)
    expected = caught[0].contiguous().reshape(30, -1).numpy()
    kept = artifact.array("E")
    assert kept.dtype == np.float16
    np.testing.assert_allclose(kept, expected, rtol=2e-3, atol=1e-4)
    assert artifact.values["shapes"]["E"] == list(caught[0].shape[1:])
    # and the same network gave the logits that are kept of it
    network_artifact = store.open(stage.inputs["network"])
    place = np.searchsorted(network_artifact.array("test_rows"), rows)
    np.testing.assert_allclose(network_artifact.array("test_logits")[place], logits, atol=1e-4, rtol=1e-3)


def test_a_source_tasks_weights_are_taken_but_for_the_head():
    def network(classes: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, classes))

    source, model = network(7), network(2)
    head = model[1].weight.clone()
    networks.load_all_but_head(model, "1", source.state_dict())
    assert torch.equal(model[0].weight, source[0].weight)
    assert torch.equal(model[1].weight, head)
    with pytest.raises(DataError, match=r"does not fit the teacher: 0\.weight"):
        networks.load_all_but_head(
            torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Linear(4, 2)), "1", source.state_dict()
        )
    with pytest.raises(DataError, match="is a Conv2d, not a linear layer"):
        networks.head_of(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1)), "0")


def test_building_a_network_leaves_the_global_state_alone(plain_registry, tiny_data):
    architecture = plain_registry.create("architectures", "wide-resnet", {"depth": 10})
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one = networks.build(architecture, tiny_data, 11, "cpu")
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(4)
    same, other = (networks.build(architecture, tiny_data, s, "cpu") for s in (11, 12))
    for name, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])
    assert any(not torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())


# -- how a stage ends


def test_a_stage_that_raises_is_kept_as_a_failure_and_then_forgotten(
    tiny_plan, make_task, tmp_path, monkeypatch
):
    from kdbench.stages import teacher

    store = Store(tmp_path / "ws")
    stage = stage_of(tiny_plan(), "teacher")

    def boom(made, draft):
        made.warn("before it broke")
        draft.array("half", np.zeros(3))
        raise RuntimeError("boom")

    with monkeypatch.context() as patch:
        patch.setattr(teacher, "run", boom)
        outcome = task.execute(make_task(stage, store))
    assert (outcome.status, outcome.warnings) == ("failed", ("before it broke",))
    assert "boom" in outcome.error
    assert "test_stages.py" in outcome.error  # a traceback
    assert not store.has(stage.key)
    assert (store.root / "failures" / f"{stage.key}.json").is_file()
    outcome = task.execute(make_task(stage, store))
    assert outcome.status == "finished"
    assert not (store.root / "failures" / f"{stage.key}.json").exists()
    assert task.execute(make_task(stage, store)).status == "cached"


def test_an_interrupted_stage_leaves_nothing(tiny_plan, make_task, tmp_path, monkeypatch):
    from kdbench.stages import teacher

    store = Store(tmp_path / "ws")
    stage = stage_of(tiny_plan(), "teacher")

    def interrupted(made, draft):
        draft.array("half", np.zeros(3))
        raise KeyboardInterrupt

    monkeypatch.setattr(teacher, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        task.execute(make_task(stage, store))
    assert list(store.records()) == []
    assert list((store.root / "failures").iterdir()) == []
    assert list((store.root / "tmp").iterdir()) == []
    with store.lock(stage.key):  # it was given back
        pass


def test_a_view_of_images_that_a_network_did_not_see_is_refused(finished, tiny_data):
    from kdbench.evaluation.view import MetricView
    from kdbench.stages.artifacts import StoredNetwork

    plan, store, _ = finished
    network = store.open(plan.cells[0].network)
    rows = np.asarray(network.array("test_rows"))
    view = MetricView(tiny_data, rows[:7], StoredNetwork(network))
    assert np.array_equal(view.logits, network.array("test_logits")[:7])
    unseen = np.setdiff1d(np.arange(100), rows)[:3]
    with pytest.raises(ValueError, match="3 of 3 images"):
        MetricView(tiny_data, unseen, StoredNetwork(network)).logits
