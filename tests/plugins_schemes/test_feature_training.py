"""Feature schemes in the engine: stages, trained modules, memory banks, resumption."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kdbench.api import Normalization
from kdbench.suite.schema import Training
from kdbench.training.data import Augmentation, ImageSource
from kdbench.training.loop import Run, train
from kdbench.training.outputs import Anatomy
from kdbench.training.setup import Setup, scheme_modules
from kdbench.training.teaching import LiveTeacher, Teaching
from kdbench_networks.wide_resnet import WideResNet
from kdbench_schemes._pairs import Pair
from kdbench_schemes.amtml import AMTML
from kdbench_schemes.attention_transfer import AttentionTransfer
from kdbench_schemes.crd import CRD
from kdbench_schemes.fitnets import FitNets
from kdbench_schemes.pkt import PKT
from kdbench_schemes.reviewkd import ReviewKD
from kdbench_schemes.rkd import RKD
from kdbench_schemes.similarity import Similarity
from kdbench_schemes.vid import VID

CLASSES, SIDE, LABELLED, ROWS = 3, 12, 10, 26
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (ROWS + 4, SIDE, SIDE, 3), dtype=np.uint8)  # four rows that are in no training
LABELS = torch.from_numpy(RNG.integers(0, CLASSES, LABELLED))
SCHEMES = {
    "fitnets": FitNets,
    "fitnets code": lambda: FitNets(variant="code"),
    "attention-transfer": AttentionTransfer,
    "attention-transfer paper": lambda: AttentionTransfer(variant="paper"),
    "similarity": Similarity,
    "rkd": RKD,
    "pkt": PKT,
    "vid": VID,
    "crd": lambda: CRD(n_negatives=20, size=8),
    "crd paper": lambda: CRD(variant="paper", n_negatives=20, size=8),
    "crd instance": lambda: CRD(negatives="instance", n_negatives=20, size=8),
    "reviewkd": lambda: ReviewKD(width=8),
    "amtml": lambda: AMTML(teachers=2),
}


def recipe(epochs: int = 2, **more) -> Training:
    return Training(
        epochs=epochs, batch_size=8, learning_rate=0.01, weight_decay=0, schedule="constant", **more
    )


def network(width: int, seed: int):
    architecture = WideResNet(depth=10, width=width)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = architecture.build(CLASSES, (SIDE, SIDE, 3)).to(memory_format=torch.channels_last)
    return model, Anatomy.of(architecture, model)


def source(rows) -> ImageSource:
    norm = Normalization((0.5,) * 3, (0.25,) * 3)
    return ImageSource(IMAGES, np.asarray(rows), norm, augmentation=Augmentation(True, 0))


def training(scheme, *, epochs: int = 2, pool: bool = True, labels=LABELS) -> Run:
    student, anatomy = network(1, 1)
    teachers = [
        LiveTeacher(m, source(range(ROWS + 4)), a, "float32") for m, a in (network(2, 2), network(2, 3))
    ]
    run = Run(
        student=student, epochs=epochs, batch_size=8, seed=4, labelled_source=source(range(LABELLED)),
        labels=labels, unlabelled_source=source(range(LABELLED, ROWS)) if pool else None,
        teaching=Teaching(live=teachers[0], several=teachers), anatomy=anatomy, n_classes=CLASSES,
    )  # fmt: skip
    images = torch.zeros(2, 3, SIDE, SIDE)
    shapes, width = anatomy.shapes(student, images)
    guide = teachers[0].anatomy.shapes(teachers[0].model, images)
    setup = Setup(
        student=student, teacher=teachers[0].model, n_classes=CLASSES, n_train=len(IMAGES), n_labelled=LABELLED,
        n_unlabelled=run.n_unlabelled, student_features=shapes, student_width=width,
        build=lambda seed: network(1, seed)[0], seed=4, teacher_features=guide[0], teacher_width=guide[1],
    )  # fmt: skip
    run.modules = scheme_modules(scheme, setup, "cpu")
    return run


def weights(model) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[k].nan_to_num(-1), b[k].nan_to_num(-1)) for k in a.keys() | b.keys())


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("name", SCHEMES)
def test_scheme_trains_and_resumes_identically(name, tmp_path):
    scheme = SCHEMES[name]()
    whole = training(scheme)
    before, teacher = weights(whole.student), weights(whole.teaching.live.model)
    trained = train(whole, scheme, recipe(), precision="float32")
    assert all(any(map(math.isfinite, curve)) for curve in trained.history.values())
    moved = {k for k, v in weights(whole.student).items() if not torch.equal(v, before[k])}
    assert {k for k, _ in whole.student.named_parameters()} <= moved
    assert same(teacher, weights(whole.teaching.live.model))
    assert all(p.grad is None for p in whole.teaching.live.model.parameters())

    def interrupt(images, losses):
        done.append(losses)
        if len(done) == 2:
            raise Interrupted

    broken, done = training(scheme), []
    saved = {"checkpoints": tmp_path, "save_every": 0, "progress": interrupt}
    with pytest.raises(Interrupted):
        train(broken, scheme, recipe(), precision="float32", **saved)
    resumed = training(scheme)
    assert train(resumed, scheme, recipe(), precision="float32", checkpoints=tmp_path).steps == trained.steps
    assert same(weights(whole.student), weights(resumed.student))
    assert same(weights(whole.modules), weights(resumed.modules))


@pytest.mark.parametrize("name", ["fitnets", "similarity", "crd", "amtml"])
def test_without_pool_only_labelled_images_are_used(name):
    scheme = SCHEMES[name]()
    scheme.pool = False
    with_pool, without = training(scheme), training(scheme, pool=False)
    for run in (with_pool, without):
        assert train(run, scheme, recipe(), precision="float32").images == 2 * LABELLED
    assert same(weights(with_pool.student), weights(without.student))


# -- fitnets


def test_first_stage_trains_up_to_hint_and_second_all_layers():
    scheme = FitNets(hint_share=0.5)
    run = training(scheme)
    start = weights(run.student)
    stages = []
    trained = train(
        run, scheme, recipe(), precision="float32", progress=lambda *_: stages.append(weights(run.student))
    )
    parameters = dict(run.student.named_parameters())
    moved = {k for k in parameters if not torch.equal(start[k], stages[0][k])}
    behind = {k for k in parameters if k.startswith(("group3", "bn", "fc"))}
    assert moved == parameters.keys() - behind
    assert all(not torch.equal(stages[0][k], stages[1][k]) for k in parameters)
    hint, kl = trained.history["loss.hint"], trained.history["loss.kl"]
    assert math.isfinite(hint[0])
    assert math.isnan(hint[1])
    assert math.isnan(kl[0])
    assert math.isfinite(kl[1])


def test_soft_target_weight_decreases_over_second_stage():
    scheme = FitNets(hint_share=0.2)
    at = [scheme.weight_at(SimpleNamespace(progress=p)) for p in (0.2, 0.6, 1.0)]
    assert at == pytest.approx([4.0, 2.5, 1.0])


def test_training_without_second_stage_is_rejected():
    scheme = FitNets(hint_share=0.6)
    with pytest.raises(ValueError, match=r"hint_share=0.6: a training of 2 epoch.*at most 0.5"):
        train(training(scheme), scheme, recipe(2), precision="float32")
    trained = train(training(scheme, epochs=1), scheme, recipe(1, steps=10), precision="float32")
    assert {"loss.hint", "loss.kl"} <= trained.history.keys()


# -- vid


def test_vid_means_and_variances_are_trained():
    scheme = VID(initial_variance=3.0)
    run = training(scheme)
    assert run.modules is not None
    for k in range(3):
        torch.testing.assert_close(run.modules.variance(k), torch.full_like(run.modules.variance(k), 3.0))
    before = weights(run.modules)
    train(run, scheme, recipe(), precision="float32")
    assert all(not torch.equal(v, before[k]) for k, v in run.modules.state_dict().items())


# -- reviewkd


def test_warmup_weight_increases_with_epochs():
    scheme = ReviewKD(warmup=0.5, weight=8.0)
    rising = [scheme.weight_at(SimpleNamespace(epoch=e, epochs=8)) for e in range(8)]
    assert rising == pytest.approx([2, 4, 6, 8, 8, 8, 8, 8])
    assert ReviewKD(warmup=0.0).weight_at(SimpleNamespace(epoch=0, epochs=1)) == 5.0


def test_shallow_teacher_layers_supervise_deep_student_layers():
    review = training(ReviewKD(width=8)).modules
    layers = [torch.randn(2, *p.student_shape, requires_grad=True) for p in review.pairs]
    found = review(layers)
    assert [tuple(f.shape[1:]) for f in found[:-1]] == [p.teacher_shape for p in review.pairs[:-1]]
    found[0].square().sum().backward()
    assert all(layer.grad is not None and (layer.grad != 0).any() for layer in layers)
    for layer in layers:
        layer.grad = None
    review(layers)[-1].square().sum().backward()
    assert [layer.grad is not None for layer in layers] == [False] * (len(layers) - 1) + [True]


# -- crd


def memory(**changed):
    from kdbench_schemes._crd_module import Memory

    settings = {
        "images": 6, "rows": 9, "size": 4, "temperature": 0.5, "momentum": 0.5, "by_class": True,
        "scaled": True,
    }  # fmt: skip
    torch.manual_seed(0)
    return Memory(Pair("penultimate", "penultimate", (3,), (5,)), **(settings | changed))


def test_negatives_are_uniform_over_other_classes():
    kept = memory()
    kept.label_of[:] = torch.tensor([1, 0, 1, -1, 1, -1])
    torch.manual_seed(0)
    counts = kept.draw(torch.tensor([0, 1, 3]), 6000)
    assert counts.sum(1).tolist() == [6000] * 3
    allowed = [[1, 3, 5], [0, 2, 3, 4, 5], [0, 1, 2, 4, 5]]
    for row, others in zip(counts, allowed, strict=True):
        assert row.nonzero()[:, 0].tolist() == others
        expected = 6000 / len(others)
        chi_square = ((row[others] - expected) ** 2 / expected).sum().item()
        assert chi_square < 18.5  # the 0.999 quantile of four degrees of freedom


def test_instance_negatives_are_all_other_images():
    kept = memory(by_class=False)
    kept.label_of[:] = 1
    counts = kept.draw(torch.arange(6), 500)
    assert torch.equal(counts == 0, torch.eye(6, dtype=torch.bool))


def test_memory_slots_follow_order_of_first_use():
    kept = memory()
    assert kept.find_slots(torch.tensor([7, 2, 7])).tolist() == [1, 0, 1]
    assert kept.find_slots(torch.tensor([2, 5, 0, 7])).tolist() == [0, 3, 2, 1]
    assert kept.slot_of.tolist() == [2, -1, 0, -1, -1, 3, -1, 1, -1]
    with pytest.raises(RuntimeError, match="the memory bank has 6 slots but got 7 images"):
        kept.find_slots(torch.tensor([1, 3, 4]))


def test_one_step_of_crd_against_numpy():
    """The scale, both losses and both updates, from the embeddings and the previous memory banks."""
    kept = memory()
    student, teacher = torch.randn(2, 3), torch.randn(2, 5)
    banks = [kept.student.double().numpy(), kept.teacher.double().numpy()]
    torch.manual_seed(5)
    loss = kept(student, teacher, torch.tensor([4, 1]), torch.tensor([0, 1]), 7)
    own = kept.slot_of[[4, 1]].numpy()
    torch.manual_seed(5)
    counts = kept.draw(torch.from_numpy(own), 7).numpy()
    embedded = []
    for layer, given in ((kept.embed_student, student), (kept.embed_teacher, teacher)):
        v = layer(given).detach().double().numpy()
        embedded.append(v / np.linalg.norm(v, axis=1, keepdims=True))
    expected = 0.0
    for v, bank, scale in ((embedded[0], banks[1], 0), (embedded[1], banks[0], 1)):
        e = np.exp(v @ bank.T / 0.5)
        mine = e[np.arange(2), own]
        z = (mine.sum() + (counts * e).sum()) / (2 * 8) * 6
        assert kept.log_scales[scale].item() == pytest.approx(np.log(z), rel=1e-5)
        p, noise = e / z, 7 / 6
        expected -= np.log(p[np.arange(2), own] / (p[np.arange(2), own] + noise)).sum()
        expected -= (counts * np.log(noise / (p + noise))).sum()
    assert loss.item() == pytest.approx(expected / 2, rel=1e-5)
    for bank, v, now in zip(banks, embedded, (kept.student, kept.teacher), strict=True):
        moved = 0.5 * bank[own] + 0.5 * v
        bank[own] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
        np.testing.assert_allclose(now.numpy(), bank, atol=1e-6)
    scales = kept.log_scales.clone()
    kept(student, teacher, torch.tensor([4, 1]), torch.tensor([0, 1]), 7)
    assert torch.equal(scales, kept.log_scales)


def test_duplicate_image_in_batch_updates_memory_with_last():
    kept, alone = memory(momentum=0.0), memory(momentum=0.0)
    student, teacher = torch.randn(3, 3), torch.randn(3, 5)
    kept(student, teacher, torch.tensor([8, 3, 8]), torch.tensor([0, 1, 0]), 5)
    alone(student[1:], teacher[1:], torch.tensor([3, 8]), torch.tensor([1, 0]), 5)
    torch.testing.assert_close(kept.student, alone.student)
    torch.testing.assert_close(kept.teacher, alone.teacher)


def test_only_labelled_images_have_known_labels():
    scheme = CRD(n_negatives=10, size=8)
    run = training(scheme)
    train(run, scheme, recipe(), precision="float32")
    kept = run.modules
    assert kept.filled == ROWS
    assert (kept.slot_of[ROWS:] == -1).all()
    assert torch.equal(kept.label_of[kept.slot_of[:LABELLED]], LABELS)
    assert (kept.label_of[kept.slot_of[LABELLED:ROWS]] == -1).all()


# -- amtml


def test_teacher_weights_are_learned_then_fixed():
    scheme = AMTML(teachers=2, adapter_share=0.5)
    run = training(scheme)
    start, stages = weights(run.modules), []
    train(run, scheme, recipe(), precision="float32", progress=lambda *_: stages.append(weights(run.modules)))
    for name in ("theta", "v"):
        assert not torch.equal(start[name], stages[0][name])
        assert torch.equal(stages[0][name], stages[1][name])
    assert not torch.equal(stages[0]["convolutions.0.weight"], stages[1]["convolutions.0.weight"])


def test_teacher_weights_are_per_image_without_gradient_to_student():
    adaptive = training(AMTML(teachers=2)).modules
    maps = torch.randn(4, 64, 3, 3, requires_grad=True)
    found = adaptive.log_weights(maps)
    beta = maps.detach().amax((2, 3))
    expected = torch.stack([(beta * t) @ adaptive.v for t in adaptive.theta], 1).softmax(1)
    torch.testing.assert_close(found.exp(), expected)
    found[:, 0].sum().backward()
    assert maps.grad is None
    assert (adaptive.theta.grad != 0).any()
